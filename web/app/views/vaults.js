// The vaults one reaches.

import { html, useEffect } from "../../vendor/preact.js";
import { all } from "../api.js";
import { instead, lastPlace, route, to } from "../route.js";
import { me, nameOf } from "../session.js";
import { Icon, Problem, Time, Waiting, useLoaded, useTitle } from "../ui.js";
import { leave } from "./sign-in.js";

/** The frame of pages that belong to no vault. @param {{title: string, children?: any}} props */
export function Plain({ title, children }) {
  useTitle(title);
  return html`<div class="page">
    <header class="top">
      <a class="brand" href=${to.vaults()}><img src="/icon.svg" alt="" width="22" height="22" /> Crucible</a>
      <nav aria-label="Account">
        ${route.value.view === "devices" && html`<a href=${lastPlace.value || to.vaults()}>Back to the notes</a>`}
        <a href=${to.devices()} aria-current=${route.value.view === "devices" ? "page" : undefined}>Devices</a>
        <span class="who" title=${me.value?.email ?? ""}>${nameOf(me.value)}</span>
        <button class="plain" onClick=${leave}>Sign out</button>
      </nav>
    </header>
    <main class="column"><h1>${title}</h1>${children}</main>
  </div>`;
}

let first = true;

export function Vaults() {
  const [list, error, again] = useLoaded(
    async (signal) => (await all("/api/vaults", "vaults", signal)).items, []);
  useEffect(() => {
    // Who has one vault wants to be in it; who came back from it wants the list.
    if (first && list?.length === 1 && route.value.view === "vaults") instead(to.vault(list[0].name));
    if (list) first = false;
  }, [list]);
  return html`<${Plain} title="Vaults">
    ${error ? html`<${Problem} error=${error} again=${again} />` : !list ? html`<${Waiting} />`
      : list.length === 0 ? html`<p class="empty">There is no vault yet. In a folder of notes, run
        <code>cru join ${location.origin}</code> to make one of it.</p>`
      : html`<ul class="cards">${list.map((vault) => html`<li key=${vault.id}>
          <a class="card" href=${to.vault(vault.name)}>
            <strong>${vault.name}</strong>
            <span>${vault.owner ? "Yours" : "Shared with you"}${vault.access === "read" ? ", read only" : ""},
              since <${Time} ms=${vault.created_ms} /></span>
            <${Icon} name="chevron" />
          </a></li>`)}</ul>`}
  <//>`;
}
