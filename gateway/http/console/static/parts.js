// What a group is made of, as elements: messages, samples, checks, labels.

import { badge, el, facts, json, table } from "./dom.js";
import { content, number, time } from "./format.js";

export function groupLink({ id, created_at }) {
  return el("a", { href: `#/groups/${encodeURIComponent(id)}` }, time(created_at));
}

/** One message: who says it, its text, and the tools it calls. */
export function message(said) {
  const calls = said.tool_calls?.length ? said.tool_calls : null;
  return el("div", { class: "message" },
    el("p", { class: "quiet" }, said.role ?? "assistant"),
    content(said.content) && el("pre", {}, content(said.content)),
    said.refusal && el("pre", {}, `Refusal: ${said.refusal}`),
    (said.reasoning_content ?? said.reasoning) &&
      el("details", {}, el("summary", {}, "Reasoning"), el("pre", {}, said.reasoning_content ?? said.reasoning)),
    calls && [el("p", { class: "quiet" }, "calls tools"), json(calls)]);
}

export function checks(found, caption = "Checks") {
  if (!found.length) return el("p", { class: "quiet" }, "No check applied.");
  const name = (check) => [check.type, " ", el("small", {}, `${check.id}, ${check.class}, version ${check.version}`)];
  const rows = found.map((check) => [el("span", {}, name(check)), badge(check.outcome),
    check.score === null ? "none" : number(check.score), `${number(check.ms)} ms`]);
  return table(caption, ["check", "outcome", "score", "took"], rows);
}

/** One sample with its answer, key, checks and reward, and what it did before. */
export function sampleCard(sample) {
  const ended = [sample.finish_reason, sample.truncated && "cut off by length", sample.censored && "cancelled"];
  return el("article", { class: `sample ${sample.selected ? "selected" : ""}` },
    el("h3", {}, `Sample ${sample.index}`, sample.selected && [" ", badge("returned")]),
    sample.turns.map((turn) => [message(turn.message), turn.calls.map(toolCall)]),
    message(sample.message),
    facts([
      ["answer key", sample.answer_key ?? "none"],
      ["reward", sample.reward === null ? "undecided" : number(sample.reward)],
      ["label", sample.label_source],
      ["ended by", ended.filter(Boolean).join(", ")],
      ["policy", sample.policy],
      ["may train by RL", sample.rl_eligible ? "yes" : `no: ${sample.ineligible_reason ?? "not eligible"}`],
    ]),
    checks(sample.checks, `Checks of sample ${sample.index}`));
}

function toolCall(call) {
  return el("div", { class: "message" },
    el("p", { class: "quiet" }, `tool ${call.name}: `, badge(call.outcome)), el("pre", {}, call.arguments), el("pre", {}, call.content));
}

/** How many samples stand behind each answer. */
export function tally(samples) {
  const counts = new Map();
  for (const { answer_key } of samples) counts.set(answer_key, (counts.get(answer_key) ?? 0) + 1);
  const rows = [...counts].sort(([, one], [, other]) => other - one);
  return table("Samples by answer", ["answer key", "samples"], rows.map(([key, count]) => [key ?? "none", String(count)]));
}

export function labels(found) {
  if (!found.length) return el("p", {}, "Nobody has said anything of this group yet.");
  const said = ({ outcome, score, rating, minutes_saved, team }) => Object.entries({ outcome, score, rating, minutes_saved, team })
    .filter(([, value]) => value !== undefined).map(([name, value]) => `${name} ${value}`).join(", ");
  return table("Labels", ["time", "source", "author", "says", "note"],
    found.map((label) => [time(label.at), label.source, label.author, said(label), label.note ?? ""]));
}
