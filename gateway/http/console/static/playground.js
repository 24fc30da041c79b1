// One request, its answer, and what the gateway claims of it.

import { ApiError, api, events } from "./api.js";
import { add, badge, el, facts, field, json, problem, select } from "./dom.js";
import { dollars, number, percent } from "./format.js";
import { checks, message } from "./parts.js";

const EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh"];
const ON_FAILURE = ["return", "refuse", "error"];
const EXAMPLE = '{"type": "numeric", "reference": 102}';

export async function playground(view, { signal, say }) {
  const { data } = await api("/v1/models", { signal });
  const names = data.map(({ id }) => [id, id]);
  const answer = el("div");
  const send = el("button", {}, "Send");
  let running = null;
  const stop = el("button", { type: "button", disabled: true, onclick: () => running.abort() }, "Stop");
  const ask = async (event) => {
    event.preventDefault();
    running = new AbortController();
    [send.disabled, stop.disabled] = [true, false];
    say("Asked.");
    try {
      await exchange(new FormData(event.target), answer, AbortSignal.any([signal, running.signal]));
      say("Answered.");
    } catch (error) {
      if (signal.aborted) return;
      say(running.signal.aborted ? "Stopped." : "Not answered.");
      if (!running.signal.aborted) add(answer, problem(error), error instanceof ApiError && json(error.body));
    }
    [send.disabled, stop.disabled] = [false, true];
    if ([document.body, stop].includes(document.activeElement)) send.focus(); // a disabled button loses the focus
  };
  add(view, form(names, ask, [send, stop]), answer);
}

function form(names, ask, buttons) {
  const choice = (name, values) => select([["", "default"], ...values.map((value) => [value, value])], "", { name });
  return el("form", { class: "ask", onsubmit: ask },
    field("Prompt", el("textarea", { name: "prompt", rows: 4, required: true })),
    el("div", { class: "row" },
      field("Model", select(names, "champion", { name: "model" })),
      field("Effort", choice("reasoning_effort", EFFORTS)),
      field("Profile", el("input", { name: "profile" })),
      field("If not verified", choice("on_failure", ON_FAILURE))),
    field("Checks, as JSON", el("textarea", { name: "checks", rows: 2, spellcheck: "false" }), `One, or a list: ${EXAMPLE}`),
    el("label", { class: "inline" }, el("input", { type: "checkbox", name: "stream" }), " Stream the answer"),
    el("div", { class: "row" }, buttons));
}

/** Send what the form says and show what comes. Throws `SyntaxError` for checks that are no JSON. */
async function exchange(form, answer, signal) {
  answer.replaceChildren();
  const body = request(form);
  if (form.has("stream")) return streamed(body, answer, signal);
  const { choices, verification, usage } = await api("/v1/chat/completions", { body, signal });
  add(answer, el("h2", {}, "Answer"), choices.map((choice) => message(choice.message)), verdict(verification, usage));
}

async function streamed(body, answer, signal) {
  const text = el("pre");
  add(answer, el("h2", {}, "Answer"), el("div", { class: "message" }, text));
  body.stream_options = { include_usage: true };
  let [verification, usage] = [null, null];
  for await (const event of events("/v1/chat/completions", { ...body, stream: true }, signal)) {
    for (const { delta } of event.choices) text.append(delta.content ?? delta.refusal ?? "");
    verification = event.verification ?? verification;
    usage = event.usage ?? usage;
  }
  if (verification) add(answer, verdict(verification, usage));
}

function request(form) {
  const body = { model: form.get("model"), messages: [{ role: "user", content: form.get("prompt") }] };
  const verification = {};
  if (form.get("reasoning_effort")) body.reasoning_effort = form.get("reasoning_effort");
  if (form.get("profile")) verification.profile = form.get("profile");
  if (form.get("on_failure")) verification.on_failure = form.get("on_failure");
  if (form.get("checks").trim()) verification.checks = parsed(form.get("checks"));
  return Object.keys(verification).length ? { ...body, verification } : body;
}

function parsed(text) {
  try {
    const value = JSON.parse(text);
    return Array.isArray(value) ? value : [value];
  } catch (error) {
    throw new SyntaxError(`The checks are no JSON: ${error.message}`);
  }
}

function verdict(found, usage) {
  return el("div", {},
    el("h2", {}, "Verification"),
    facts([
      ["status", badge(found.status)], ["reason", found.reason], ["route", found.route], ["stopped by", found.stopped],
      ["samples", number(found.samples)], ["votes", number(found.votes)], ["agreement", percent(found.agreement)],
      ["difficulty", number(found.difficulty)], ["score", found.score === null ? "undecided" : number(found.score)],
      ["cached", found.cached ? "yes" : "no"], ["profile", found.profile], ["policy", found.policy],
      ["cost", dollars(found.cost_usd)], ["tokens", usage && String(usage.total_tokens)],
      ["group", el("a", { href: `#/groups/${encodeURIComponent(found.group_id)}` }, found.group_id)],
    ]),
    checks(found.checks),
    el("details", {}, el("summary", {}, "The verification object"), json(found)));
}
