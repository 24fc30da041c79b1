// What was solved and what it cost, read again every few seconds while somebody looks.

import { ApiError, api } from "./api.js";
import { el, facts, intervalBar, problem, table } from "./dom.js";
import { dollars, estimate, evidence, number, percent, seconds, time } from "./format.js";

const PERIOD_MS = 5000;

export async function scorecard(view, { signal }) {
  const body = el("div");
  view.append(body);
  for (;;) {
    if (!document.hidden) {
      try {
        body.replaceChildren(...report(await api("/v1/scorecard", { signal })));
      } catch (error) {
        if (signal.aborted || (error instanceof ApiError && error.status < 500)) throw error;
        body.replaceChildren(problem(error), el("p", {}, "Asked again every few seconds."));
      }
    }
    await pause(PERIOD_MS, signal);
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}

function report(card) {
  const { window, requests } = card;
  return [
    el("p", { class: "quiet" }, `${number(requests.answered)} answers of one gateway process since ${time(window.since)}; feedback of the last 30 days, of all processes.`),
    el("div", { class: "cards" },
      tile("Solve rate", card.solve_rate, percent, true),
      tile("Cost per solved", card.cost_per_solved_usd, dollars),
      tile("All-in cost per solved", card.all_in_cost_per_solved_usd, dollars),
      tile("Tokens per solved", card.tokens_per_solved, number),
      tile("Cache hit rate", card.cache.hit_rate, percent, true),
      tile("Errors", requests.errors, percent, true),
      tile("Latency, median", card.latency_seconds.p50, seconds),
      tile("Latency, 95th percentile", card.latency_seconds.p95, seconds),
      tile("Answers a minute", card.throughput_per_minute, number)),
    shares("Status of answers", card.statuses),
    shares("Route taken", card.routes),
    savings(card.savings),
    verifiers(card.verifiers),
    el("h2", {}, "Spending"),
    facts(Object.entries(card.spending_usd).map(([name, value]) => [name, dollars(value)])),
    el("h2", {}, "What became of it"),
    el("div", { class: "cards" },
      tile("Minutes saved a task", card.minutes_saved, number),
      tile("Time to resolution, median", card.time_to_resolution_seconds, seconds),
      tile("Satisfied (4 or 5 of 5)", card.satisfaction, percent, true)),
    teams(card),
  ].filter(Boolean);
}

function tile(name, found, text, proportion = false) {
  return el("div", { class: "card" },
    el("h3", {}, name),
    el("p", { class: "figure" }, found.value === null ? "—" : text(found.value)),
    proportion && intervalBar(found),
    el("p", { class: "quiet" }, evidence(found, text)));
}

function shares(caption, rates) {
  return table(caption, ["", "share", "interval and count", ""], Object.entries(rates).map(([name, rate]) =>
    [name, percent(rate.value), evidence(rate, percent), intervalBar(rate) ?? ""]));
}

function savings({ adaptive, ...baselines }) {
  const arm = (name, found) => [name, estimate(found.solve_rate, percent), estimate(found.tokens_per_solved, number)];
  return table("Against answering always once and always five times", ["", "solve rate", "tokens per solved", "tokens saved by adapting", "cost saved"], [
    [...arm("adaptive", adaptive), "", ""],
    ...Object.entries(baselines).map(([name, found]) =>
      [...arm(name, found), found.reason ?? estimate(found.tokens_saved, percent), found.reason ? "" : estimate(found.cost_saved, percent)]),
  ]);
}

function verifiers(found) {
  const rows = Object.entries(found).map(([type, { outcomes, pass_rate }]) =>
    [type, estimate(pass_rate, percent), Object.entries(outcomes).map(([name, count]) => `${name} ${count}`).join(", ")]);
  return rows.length ? table("Checks of samples", ["check", "pass rate", "outcomes"], rows) : el("p", {}, "No sample was checked yet.");
}

function teams({ minutes_saved, time_to_resolution_seconds, satisfaction }) {
  const figures = [[minutes_saved, number], [time_to_resolution_seconds, seconds], [satisfaction, percent]];
  const names = [...new Set(figures.flatMap(([found]) => Object.keys(found.by_team)))].sort();
  const cell = (found, text) => (found ? estimate(found, text) : "no data yet");
  return names.length > 0 && table("By team", ["team", "minutes saved", "time to resolution", "satisfied"],
    names.map((name) => [name, ...figures.map(([found, text]) => cell(found.by_team[name], text))]));
}
