// Recent groups, and one group with its samples side by side.

import { api } from "./api.js";
import { add, badge, el, facts, field, json, select, table } from "./dom.js";
import { dollars, number, time } from "./format.js";
import { groupLink, labels, message, sampleCard, tally } from "./parts.js";
import { reviewForm } from "./reviews.js";

const STATUSES = ["verified", "consensus", "unverified", "failed"];
const ROUTES = ["cache", "single", "vote"];
const COLUMNS = ["time", "status", "reason", "route", "profile", "policy", "tenant", "purpose"];

export async function groups(view, options) {
  await (options.id ? detail(view, options) : list(view, options));
}

async function list(view, { query, signal }) {
  add(view, filters(query));
  const { data, has_more, last_id, complete } = await api(`/v1/groups?${query}`, { signal });
  const row = (group) => [groupLink(group), badge(group.status), ...COLUMNS.slice(2).map((name) => group[name] ?? "")];
  add(view,
    complete ? null : el("p", {}, "The index is still reading the log: older groups may be missing. Load again in a moment."),
    data.length ? table("Groups, newest first", COLUMNS, data.map(row)) : el("p", {}, "No group was found."),
    el("p", { class: "pages" },
      query.has("after") && el("a", { href: page(query, null) }, "Newest"),
      has_more && el("a", { href: page(query, last_id) }, "Older")));
}

function page(query, after) {
  const changed = new URLSearchParams(query);
  if (after) changed.set("after", after);
  else changed.delete("after");
  return `#/groups?${changed}`;
}

function filters(query) {
  const choice = (name, values) => select([["", "any"], ...values.map((value) => [value, value])], query.get(name) ?? "", { name });
  const text = (name) => el("input", { name, value: query.get(name) ?? "", maxlength: 128 });
  const apply = (event) => {
    event.preventDefault();
    const given = [...new FormData(event.target)].filter(([, value]) => value !== "");
    location.hash = `#/groups?${new URLSearchParams(given)}`;
  };
  return el("form", { class: "row", onsubmit: apply },
    field("Status", choice("status", STATUSES)), field("Route", choice("route", ROUTES)),
    field("Profile", text("profile")), field("Tenant", text("tenant")), el("button", {}, "Filter"));
}

async function detail(view, { id, signal, say }) {
  const group = await api(`/v1/groups/${encodeURIComponent(id)}`, { signal });
  const spec = group.verification.checks;
  const said = el("div", {}, labels(group.labels));
  const reviewed = async () => {
    said.replaceChildren(labels((await api(`/v1/groups/${encodeURIComponent(id)}`, { signal })).labels));
  };
  add(view,
    el("p", {}, el("a", { href: "#/groups" }, "All groups")),
    el("h2", {}, `Group ${group.id}`),
    summary(group),
    el("h2", {}, "Conversation"),
    group.messages.map(message),
    el("h2", {}, "Samples"),
    tally(group.samples),
    el("div", { class: "samples" }, group.samples.map(sampleCard)),
    el("h2", {}, "Labels"),
    said,
    reviewForm(group.id, reviewed, { signal, say }),
    el("details", {}, el("summary", {}, `What was asked to be checked (${spec.length})`), json(group.verification)));
}

function summary(group) {
  return facts([
    ["status", badge(group.status)], ["reason", group.reason], ["route", group.route], ["stopped by", group.stopped],
    ["escalated", group.escalated ? "yes" : "no"], ["audited", group.audit ? "yes" : "no"],
    ["samples", `${group.samples.length} of ${group.planned_samples} planned`], ["votes", number(group.votes)],
    ["score", group.score === null ? "undecided" : number(group.score)], ["difficulty", number(group.difficulty)],
    ["profile", group.profile], ["policy", group.policy], ["tenant", group.tenant], ["purpose", group.purpose],
    ["engine", `${group.engine} ${group.engine_version}`], ["time", time(group.created_at)],
    ["tokens", `${group.prompt_tokens} asked, ${group.completion_tokens} answered`], ["cost", dollars(group.cost_usd)],
    ["consent to train", group.train_consent ? "yes" : "no"], ["held out", group.heldout ? "yes" : "no"],
    ["draws that failed", group.failures.join("; ")],
  ]);
}
