// Which section is shown, and with which key. A section is `show(view, { id, query, signal })`; it ends with its signal.

import { key } from "./api.js";
import { el, problem } from "./dom.js";
import { groups } from "./groups.js";
import { playground } from "./playground.js";
import { policies } from "./policies.js";
import { reviews } from "./reviews.js";
import { scorecard } from "./scorecard.js";

const SECTIONS = { scorecard, groups, playground, reviews, policies };
const main = document.getElementById("view");
let leave = new AbortController();

async function show() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const [path, query = ""] = location.hash.slice(2).split("?");
  const [name, id] = path.split("/");
  const section = Object.hasOwn(SECTIONS, name) ? name : "scorecard";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${section}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = section[0].toUpperCase() + section.slice(1);
  document.title = `${title} · thinktwice`;
  const view = el("section", { "aria-label": title }, el("h1", { tabindex: "-1" }, title));
  main.replaceChildren(view);
  say("");
  try {
    await SECTIONS[section](view, { id, query: new URLSearchParams(query), signal, say });
  } catch (error) {
    if (!signal.aborted) view.append(problem(error));
  }
}

/** Tell everybody, also those who listen. */
function say(text) {
  document.getElementById("status").textContent = text;
}

function showKey() {
  const id = key.get()?.match(/^tt_[0-9a-f]{12}(?=_)/)?.[0];
  document.getElementById("key-state").textContent = key.get() ? `in use: ${id ?? "a key of another form"}` : "no key in use";
  document.getElementById("forget-key").hidden = !key.get();
}

function useKey(value) {
  if (value) key.set(value);
  else key.forget();
  document.getElementById("key-value").value = "";
  showKey();
  show();
}

document.getElementById("key").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(document.getElementById("key-value").value.trim());
});
document.getElementById("forget-key").addEventListener("click", () => {
  useKey("");
  document.getElementById("key-value").focus();
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", () => {
  show();
  main.querySelector("h1").focus();
});
showKey();
show();
