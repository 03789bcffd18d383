// Notes that are gone, and their way back.

import { html } from "../../vendor/preact.js";
import { place, restore, shownName } from "../actions.js";
import { all, at } from "../api.js";
import { route, to } from "../route.js";
import { changes, mayWrite } from "../store.js";
import { Problem, Time, Waiting, useLoaded, useTitle } from "../ui.js";
import { Bar } from "./vault.js";

export function Deleted() {
  const { vault: name } = route.value;
  useTitle("Deleted notes");
  const [list, error, again] = useLoaded(
    async (signal) => (await all(`${at("notes", name, "deleted")}?limit=500`, "notes", signal)).items,
    [name, changes.value]);
  return html`<${Bar} title=${html`<h1>Deleted notes</h1>`} />
    <div class="column">
      ${error ? html`<${Problem} error=${error} again=${again} />` : !list ? html`<${Waiting} />`
      : list.length === 0 ? html`<p class="empty">Nothing was deleted.</p>`
      : html`<ul class="lines with-buttons">${list.map((one) => html`<li key=${one.note}>
        <a href=${to.history(name, one.path)}><strong>${shownName(one.path)}</strong><small>${
          [place(one.path), `by ${(one.by || "somebody").split("@")[0]}${one.device ? `, ${one.device}` : ""}`]
            .filter(Boolean).join(" · ")}</small><${Time} ms=${one.ms} /></a>
        ${mayWrite.value && html`<button onClick=${async () => {
          if (await restore(one.last, `${shownName(one.path)} is back.`, one.path)) again();
        }}>Restore</button>`}
      </li>`)}</ul>`}
    </div>`;
}
