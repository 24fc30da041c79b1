// Figures as text. What is unknown is said to be unknown, never shown as zero.

const figure = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const money = new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumSignificantDigits: 3 });
const share = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

const or = (text) => (value) => (value === null || value === undefined ? "unknown" : text(value));

export const number = or((value) => figure.format(value));
export const dollars = or((value) => money.format(value));
export const percent = or((value) => share.format(value));
export const seconds = or((value) => `${figure.format(value)} s`);
export const time = or((value) => moment.format(new Date(value * 1000)));

/** The 95 % interval and the count behind a figure. */
export function evidence({ value, low, high, n }, text) {
  if (value === null) return `no data yet (n = ${n})`;
  const interval = low === null || high === null ? "no interval yet" : `95 %: ${text(low)} to ${text(high)}`;
  return `${interval}, n = ${n}`;
}

/** A figure with its evidence, in one line. */
export function estimate(found, text) {
  return found.value === null ? evidence(found, text) : `${text(found.value)} (${evidence(found, text)})`;
}

/** The text of a message's content, which may be a list of parts. */
export function content(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  return value.map((part) => (part.type === "text" ? part.text : JSON.stringify(part))).join("\n");
}
