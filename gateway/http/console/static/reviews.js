// The review queue: what a person should look at, and the person's verdict.

import { api } from "./api.js";
import { add, badge, el, field, problem } from "./dom.js";
import { groupLink, message } from "./parts.js";

const WHY = { profile: "its profile asks for it", disputed: "feedback contradicts the verdict", audit: "an audit disagrees" };

export async function reviews(view, { query, signal, say }) {
  const asked = new URLSearchParams({ limit: 10, ...Object.fromEntries(query) });
  const { data, has_more, last_id, complete } = await api(`/v1/reviews?${asked}`, { signal });
  const heading = view.querySelector("h1");
  let waiting = data.length;
  const done = (entry) => {
    const next = entry.nextElementSibling?.matches("article") ? entry.nextElementSibling.querySelector("a") : heading;
    entry.remove();
    waiting -= 1;
    if (!waiting) add(view, nothing());
    next.focus();
  };
  add(view,
    complete ? null : el("p", {}, "The index is still reading the log: older groups may be missing. Load again in a moment."),
    data.map((row) => entry(row, done, { signal, say })),
    waiting ? null : nothing(),
    el("p", { class: "pages" },
      query.has("after") && el("a", { href: "#/reviews" }, "Newest"),
      has_more && el("a", { href: `#/reviews?after=${encodeURIComponent(last_id)}` }, "Older")));
}

function nothing() {
  return el("p", {}, "Nothing more waits for a review here.");
}

function entry(row, done, { signal, say }) {
  const shown = el("div");
  const load = async (event) => {
    if (!event.target.open || shown.hasChildNodes()) return;
    try {
      const group = await api(`/v1/groups/${encodeURIComponent(row.id)}`, { signal });
      const returned = group.samples.filter((sample) => sample.selected).map((sample) => message(sample.message));
      add(shown, group.messages.map(message), returned.length ? returned : el("p", {}, "No sample was returned."));
    } catch (error) {
      if (!signal.aborted) add(shown, problem(error));
    }
  };
  const card = el("article", { class: "card" },
    el("h2", {}, groupLink(row)),
    el("p", {}, badge(row.status), ` ${row.reason} · ${row.profile ?? "no profile"} · ${row.policy} · ${row.tenant}`),
    el("p", {}, `Waits because ${row.why.map((why) => WHY[why] ?? why).join(", and ")}.`),
    el("details", { ontoggle: load }, el("summary", {}, "Question and returned answer"), shown),
    reviewForm(row.id, () => done(card), { signal, say }));
  return card;
}

/** Accept or reject the returned answer of a group, with a note. `done` follows once the label is on disk. */
export function reviewForm(id, done, { signal, say }) {
  const note = el("textarea", { rows: 2, maxlength: 4000 });
  const failed = el("div");
  const buttons = ["accept", "reject"].map((verdict) =>
    el("button", { type: "button", onclick: () => submit(verdict) }, verdict === "accept" ? "Accept" : "Reject"));
  const submit = async (verdict) => {
    failed.replaceChildren();
    for (const button of buttons) button.disabled = true;
    try {
      const body = note.value.trim() ? { verdict, note: note.value } : { verdict };
      await api(`/v1/reviews/${encodeURIComponent(id)}`, { body, signal });
      note.value = "";
      say(verdict === "accept" ? "Accepted." : "Rejected.");
      await done();
    } catch (error) {
      if (!signal.aborted) failed.replaceChildren(problem(error));
    }
    for (const button of buttons) button.disabled = false;
    if (document.activeElement === document.body) note.focus(); // a disabled button loses the focus
  };
  return el("form", { class: "row", onsubmit: (event) => event.preventDefault() },
    field("Note on the returned answer (optional)", note), buttons, failed);
}
