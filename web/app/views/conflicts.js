// Where two edits met: what was kept, what was set aside, and the choice between them.

import { html, useState } from "../../vendor/preact.js";
import { place, restore, shownName } from "../actions.js";
import { all, at, get, post } from "../api.js";
import { go, route, to } from "../route.js";
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
      : html`<ul class="lines">${list.map((one) => html`<li key=${one.id}>
        <a href=${to.list(name, "conflicts", one.id)}><strong>${shownName(one.path)}</strong>
          <small>${place(one.path)} ${one.what}: ${who(one.kept_by)} kept, ${who(one.other_by)} set aside</small>
          <${Time} ms=${one.ms} /></a></li>`)}</ul>`}
    </div>`;
}

/** A name, however the server gives it. @param {any} by */
const who = (by) => (typeof by === "string" && by ? by : by?.user ?? by?.name ?? by?.email ?? "somebody");

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
        <${SideOf} title="What was kept" one=${one.kept} base=${one.base} button="Take what was kept"
          busy=${busy} onTake=${() => void take("kept")} />
        <${SideOf} title="What was set aside" one=${one.other} base=${one.base} button="Take this instead"
          busy=${busy} onTake=${() => void take("other")} />
      </div>
      ${mayWrite.value && html`<p class="sides-both"><button disabled=${busy} onClick=${() => void take("both")}>Take both, one after the other</button></p>`}
      <details class="sides-base"><summary>What both started from</summary>
        ${one.base ? html`<pre class="compare">${one.base.text}</pre>` : html`<p class="empty">Nothing: both were written anew.</p>`}</details>
      ${one.now && html`<details class="sides-base"><summary>The note as it is now</summary><pre class="compare">${one.now.text}</pre></details>`}
    </div>`}`;
}

/** @param {{title: string, one: any, base: any, button: string, busy: boolean, onTake: () => void}} props */
const SideOf = ({ title, one, base, button, busy, onTake }) => html`
  <section class="one-side" aria-label=${title}>
    <header><h2>${title}</h2>
      <p class="hint">${who(one.by)}${one.device ? `, ${one.device}` : ""} · <${Time} ms=${one.ms} /></p></header>
    <${Compare} before=${base?.text ?? ""} after=${one.text ?? ""} whole=${true} />
    ${mayWrite.value && html`<button class="main" disabled=${busy} onClick=${onTake}>${button}</button>`}
  </section>`;
