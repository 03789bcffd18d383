// Where two edits met: what was kept, what was set aside, and the choice between them.

import { html, useState } from "../../vendor/preact.js";
import { place, restore, shownName } from "../actions.js";
import { all, at, get, post } from "../api.js";
import { go, route, to } from "../route.js";
import { diff } from "../diff.js";
import { changes, mayWrite, refresh } from "../store.js";
import { Icon, Problem, Time, Waiting, say, sayError, useLoaded, useTitle } from "../ui.js";
import { Compare } from "./compare.js";
import { Bar } from "./vault.js";

/** @param {{id: string}} props */
export const Conflicts = ({ id }) => (id ? html`<${One} id=${id} />` : html`<${List} />`);

function List() {
  const { vault: name } = route.value;
  useTitle("Conflicts");
  const [list, error, again] = useLoaded(
    async (signal) => (await all(at("conflicts", name), "conflicts", signal)).items,
    [name, changes.value]);
  return html`<${Bar} title=${html`<h1>Conflicts</h1>`} />
    <div class="column">
      <p class="hint">When two edits cannot both stand, one is kept in the note and the other is kept here. Nothing is lost.</p>
      ${error ? html`<${Problem} error=${error} again=${again} />` : !list ? html`<${Waiting} />`
      : list.length === 0 ? html`<p class="empty">No conflicts. All edits found their place.</p>`
      : html`<ul class="lines conflicts">${list.map((one, n) => html`<li key=${one.id}>
        <a href=${to.list(name, "conflicts", one.id)}><strong>${shownName(one.path)}</strong>
          <small>${[place(one.path), one.what].filter(Boolean).join(" · ")}</small><${Time} ms=${one.ms} />
          <${Sides} one=${one} ask=${n < SHOWN} /></a></li>`)}</ul>`}
    </div>`;
}

/** So many conflicts of a list say at once what their words are. */
const SHOWN = 40;
const WORDS_MAX = 140;

/** The words of both sides, and whose they are. @param {{one: any, ask: boolean}} props */
function Sides({ one, ask }) {
  const { vault: name } = route.value;
  const [whole] = useLoaded(async (signal) => (
    ask ? get(at("conflicts", name, one.id), { signal }) : null), [one.id]);
  const side = (/** @type {string} */ title, /** @type {any} */ of, /** @type {any} */ by, /** @type {"kept" | "other"} */ which) => html`
    <span class="side-words"><small>${title}</small>
      <q dir="auto">${around(whole, which)}</q>
      <small>${who(by)}${of?.device ? `, ${of.device}` : ""}</small></span>`;
  return html`${side("Kept", whole?.kept, one.kept_by, "kept")}
    ${side("Set aside", whole?.other, one.other_by, "other")}`;
}

/** Whether two names met, and no words. @param {any} whole */
const isOfNames = ({ kept, other }) => kept.text === other.text && kept.path !== other.path;

const BEFORE = 40;

/**
 * What one side says in that place, within its line.
 * @param {any} whole @param {"kept" | "other"} which
 */
function around(whole, which) {
  if (!whole) return "…";
  if (isOfNames(whole)) return words(whole[which].path ?? "");
  const text = whole[which].text ?? "";
  const wanted = whole.place?.[which] ?? "";
  const away = whole[which === "kept" ? "other" : "kept"].text ?? "";
  const hunks = diff(away, text);
  const hunk = hunks.find(({ fromB, toB }) => wanted && text.slice(fromB, toB).includes(wanted.trim()))
    ?? hunks[0];
  if (!text) return "nothing: it was deleted";
  if (!hunk) return words(wanted || text);
  const { fromB, toB } = hunk;
  const from = Math.max(text.lastIndexOf("\n", fromB - 1) + 1, fromB - BEFORE);
  const end = text.indexOf("\n", toB);
  return html`${words(text.slice(from, fromB))}<mark>${words(text.slice(fromB, toB))}</mark>${
    words(text.slice(toB, end < 0 ? undefined : end))}`;
}

/** On one line. @param {string} text */
const words = (text) => {
  const plain = text.replace(/\s+/g, " ");
  return plain.length > WORDS_MAX ? `${plain.slice(0, WORDS_MAX)}…` : plain;
};

/** A name, however the server gives it. @param {any} by */
const who = (by) => (typeof by === "string" && by ? by.split("@")[0] : by?.user ?? by?.name ?? by?.email ?? "somebody");

/** @param {{id: string}} props */
function One({ id }) {
  const { vault: name } = route.value;
  const [one, error, again] = useLoaded((signal) => get(at("conflicts", name, id), { signal }), [id]);
  const [busy, setBusy] = useState(false);
  useTitle(one ? `Conflict in ${shownName(one.path)}` : "Conflict");
  const take = async (/** @type {"kept" | "other" | "both"} */ side) => {
    setBusy(true);
    try {
      const { before } = await post(at("conflicts", name, id, "take"), { side });
      refresh();
      go(to.note(name, one.path));
      say(side === "kept" ? "Kept as it was." : side === "other" ? "The other side is in the note now."
        : "Both are in the note now.",
      { label: "Undo", run: () => restore(before, "Undone.") });
    } catch (problem) {
      sayError(problem);
    } finally {
      setBusy(false);
    }
  };
  const back = html`<a class="back" href=${to.list(name, "conflicts")} aria-label="All conflicts" title="All conflicts"><${Icon} name="back" /></a>`;
  return html`<${Bar} before=${back} title=${html`<h1 class="note-name"><small>${one ? place(one.path) : ""}</small>${one ? shownName(one.path) : "Conflict"}</h1>`}>
      ${one && html`<a class="button" href=${to.note(name, one.path)}>Open the note</a>`}
    <//>
    ${error ? html`<div class="column"><${Problem} error=${error} again=${again} /></div>`
    : !one ? html`<${Waiting} />` : html`<div class="sides-page">
      <div class="sides">
        <${SideOf} title="What was kept" one=${one.kept} base=${one.base} names=${isOfNames(one)} button="Take what was kept"
          busy=${busy} onTake=${() => void take("kept")} />
        <${SideOf} title="What was set aside" one=${one.other} base=${one.base} names=${isOfNames(one)} button="Take this instead"
          busy=${busy} onTake=${() => void take("other")} />
      </div>
      ${mayWrite.value && !isOfNames(one) && html`<p class="sides-both"><button disabled=${busy} onClick=${() => void take("both")}>Take both, one after the other</button></p>`}
      <details class="sides-base"><summary>What both started from</summary>
        ${one.base ? html`<pre class="compare">${one.base.text}</pre>` : html`<p class="empty">Nothing: both were written anew.</p>`}</details>
      ${one.now && html`<details class="sides-base"><summary>The note as it is now</summary><pre class="compare">${one.now.text}</pre></details>`}
    </div>`}`;
}

/** @param {{title: string, one: any, base: any, names: boolean, button: string, busy: boolean, onTake: () => void}} props */
const SideOf = ({ title, one, base, names, button, busy, onTake }) => html`
  <section class="one-side" aria-label=${title}>
    <header><h2>${title}</h2>
      <p class="hint">${who(one.by)}${one.device ? `, ${one.device}` : ""} · <${Time} ms=${one.ms} /></p></header>
    ${names ? html`<p class="compare">The note is called <strong>${one.path ?? "nothing: it was deleted"}</strong></p>`
      : html`<${Compare} before=${base?.text ?? ""} after=${one.text ?? ""} whole=${true} />`}
    ${mayWrite.value && html`<button class="main" disabled=${busy} onClick=${onTake}>${button}</button>`}
  </section>`;
