// Edits that no server took and whose note is gone: kept in this browser until somebody decides.

import { html } from "../../vendor/preact.js";
import { saveAsNew } from "../actions.js";
import { LET_GO, browserShelf, unattended } from "../live/journal.js";
import { me } from "../session.js";
import { mayWrite, notes, vault } from "../store.js";
import { Time, ask, copy, say, useEvent, useLoaded } from "../ui.js";

export function Kept() {
  const name = vault.value?.name ?? "";
  const there = new Set([...notes.value.values()].map(({ note }) => note));
  const [drafts, , again] = useLoaded(async () => (
    (await unattended(browserShelf(), me.value?.user ?? ""))
      .filter((draft) => draft.vault === name)), [name, notes.value]);
  useEvent(LET_GO, again);
  const gone = (drafts ?? []).filter(({ note }) => vault.value && !there.has(note));
  const forget = async (/** @type {string} */ id) => { await browserShelf().remove(id); again(); };
  return gone.length === 0 ? null : html`<section aria-label="Kept in this browser">
    ${gone.map((draft) => html`<div class="notice" key=${draft.id}>
      <p><strong>${draft.path}</strong> is gone. What you wrote in it last, <${Time} ms=${draft.at_ms} />, is kept in this browser.</p>
      <div class="buttons">
        <button class="plain" onClick=${async () => {
          const yes = await ask({ title: "Throw the text away?", text: `What you wrote in ${draft.path} is nowhere else.`, ok: "Throw away", danger: true });
          if (yes) await forget(draft.id);
        }}>Throw away</button>
        <button onClick=${async () => { await copy(draft.text); say("The text is copied."); }}>Copy the text</button>
        ${mayWrite.value && html`<button onClick=${async () => {
          if (await saveAsNew(draft.path, draft.text)) await forget(draft.id);
        }}>Save as a new note</button>`}
      </div></div>`)}
  </section>`;
}
