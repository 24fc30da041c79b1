// Which policy serves, which could, and what happened before. A flip names the epoch it was decided on.

import { api } from "./api.js";
import { add, badge, el, facts, field, json, problem, table } from "./dom.js";
import { number, percent, time } from "./format.js";

export async function policies(view, { signal, say }) {
  const body = el("div");
  const failed = el("div");
  add(view, failed, body);
  const load = async () => body.replaceChildren(...shown(await api("/v1/policies", { signal }), flip));
  const flip = async (question, path, fields, epoch) => {
    const reason = await confirmed(question, epoch);
    if (reason === null) return;
    failed.replaceChildren();
    try {
      const after = await api(path, { body: { ...fields, reason, expected_epoch: epoch }, signal });
      const late = after.serving ? "" : " This gateway could not follow yet: see its log.";
      say(`Epoch ${after.epoch}: ${after.champion ?? "the base model"} serves${canary(after)}.${late}`);
    } catch (error) {
      if (signal.aborted) return;
      failed.replaceChildren(problem(error));
      say("Nothing was changed.");
    }
    await load();
    view.querySelector("h1").focus();
  };
  await load();
}

const canary = ({ canary: trial }) => (trial ? `, and ${trial.policy} as a canary for ${percent(trial.share)}` : "");

function shown(registry, flip) {
  const { champion, epoch, base, data, history } = registry;
  const rollback = () => flip("Go one step back?", "/v1/policies/rollback", {}, epoch);
  return [
    facts([["champion", champion ?? `the base model${base ? `, ${base}` : ""}`], ["epoch", String(epoch)],
      ["canary", registry.canary && `${registry.canary.policy}, ${percent(registry.canary.share)} of requests`]]),
    el("p", {}, el("button", { type: "button", onclick: rollback }, "Roll back one step")),
    el("h2", {}, "Policies"),
    data.length ? null : el("p", {}, "No policy was trained yet: the base model serves."),
    [...data].reverse().map((policy) => card(policy.name, policy.manifest, registry, flip)),
    champion && card("base", null, registry, flip),
    table("History, newest first", ["time", "action", "policy", "before", "epoch", "by", "reason"], history.map((entry) => [
      time(entry.ts), entry.share === undefined ? entry.action : `${entry.action} ${percent(entry.share)}`,
      entry.policy ?? "base", entry.previous ?? "base", number(entry.epoch), entry.actor, entry.reason])),
  ].flat().filter(Boolean);
}

function card(name, manifest, registry, flip) {
  const role = { [registry.champion ?? "base"]: "champion", [registry.canary?.policy]: "canary" }[name];
  const share = el("input", { type: "number", min: 1, max: 100, step: "any", value: 100, required: true });
  const promote = (event) => {
    event.preventDefault();
    const part = Number(share.value) / 100;
    const question = part < 1 ? `Let ${name} serve ${percent(part)} of the champion's requests, as a canary?` : `Let ${name} serve?`;
    flip(question, `/v1/policies/${encodeURIComponent(name)}/promote`, name === "base" ? {} : { share: part }, registry.epoch);
  };
  return el("article", { class: "card" },
    el("h3", {}, name, role && [" ", badge(role)]),
    manifest && el("details", {}, el("summary", {}, "Manifest"), json(manifest)),
    role === "champion" ? null : el("form", { class: "row", onsubmit: promote },
      name === "base" ? null : field("Share of requests, %", share),
      el("button", {}, `Promote ${name}`)));
}

/** Ask before a flip; its reason, or null when it was called off. */
function confirmed(question, epoch) {
  const reason = el("input", { maxlength: 1000 });
  const dialog = el("dialog", { "aria-labelledby": "question" },
    el("h2", { id: "question" }, question),
    el("p", {}, `Nothing happens unless epoch ${epoch} still holds.`),
    field("Reason, for the history", reason),
    el("p", { class: "row" },
      el("button", { type: "button", onclick: () => dialog.close("yes") }, "Confirm"),
      el("button", { type: "button", onclick: () => dialog.close("") }, "Cancel")));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.returnValue === "yes" ? reason.value : null);
  }));
}
