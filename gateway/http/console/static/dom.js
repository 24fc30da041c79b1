// Every element is made here. What the server says enters as text nodes, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `on…` properties are listeners; false and null leave an attribute out; so they do with a child. */
export function el(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** Put more into an element. */
export function add(node, ...children) {
  return filled(node, {}, children);
}

function filled(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A labelled control; the label is around it, so that neither needs an id. */
export function field(label, control, hint = null) {
  return el("label", { class: "field" }, el("span", {}, label), control, hint && el("small", {}, hint));
}

export function select(options, chosen = "", properties = {}) {
  return el("select", properties, options.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
}

/** A table with a caption; each row is a list of cells, text or elements, and its first cell is its heading. */
export function table(caption, columns, rows) {
  const cells = ([first, ...rest]) => [el("th", { scope: "row" }, first), ...rest.map((cell) => el("td", {}, cell))];
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, columns.map((column) => el("th", { scope: "col" }, column)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, cells(row))))));
}

/** Names and values; those that are unknown are left out. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", {}, known.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** A status, outcome or action, with the colour of its meaning. The word is the message; the colour only repeats it. */
export function badge(word) {
  const tone = { verified: "good", pass: "good", failed: "bad", fail: "bad", error: "odd", timeout: "odd" }[word] ?? "plain";
  return el("span", { class: `badge ${tone}` }, String(word));
}

/** What went wrong, in the server's own words. */
export function problem(error) {
  const about = [error.status && `HTTP ${error.status}`, error.code, error.param && `field ${error.param}`, error.requestId];
  const cure = error.status === 401 ? el("p", {}, "Enter a valid key above.") : null;
  const known = about.filter(Boolean).join(" · ");
  return el("div", { class: "problem", role: "alert" }, el("p", {}, error.message), known && el("p", { class: "quiet" }, known), cure);
}

export function json(value) {
  return el("pre", {}, JSON.stringify(value, null, 2));
}

/** An interval and its value on a line from 0 to 1. The figures beside it say the same. */
export function intervalBar({ value, low, high }) {
  if (value === null) return null;
  const draw = (tag, properties) => filled(document.createElementNS(SVG, tag), properties, []);
  const bar = draw("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", class: "bar", "aria-hidden": "true" });
  bar.append(
    draw("rect", { class: "track", x: 0, y: 2.5, width: 100, height: 1 }),
    draw("rect", { class: "reach", x: 100 * low, y: 1, width: 100 * (high - low), height: 4 }),
    draw("rect", { class: "value", x: Math.min(99, 100 * value), y: 0, width: 1, height: 6 }),
  );
  return bar;
}
