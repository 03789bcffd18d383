// A vault: the tree beside whatever of it is open.

import { html, useEffect } from "../../vendor/preact.js";
import { newNote, place, shownName } from "../actions.js";
import { dialog, drawer } from "../dialogs.js";
import { isNote } from "../paths.js";
import { keyOfNote, route, to } from "../route.js";
import { me, nameOf, signedOut } from "../session.js";
import {
  conflicts, heard, live, loading, mayWrite, notes, others, problem, refused, vault,
} from "../store.js";
import { Icon, Problem, Time, Waiting, counted, useTitle } from "../ui.js";
import { Activity } from "./activity.js";
import { Conflicts } from "./conflicts.js";
import { Deleted } from "./deleted.js";
import { History } from "./history.js";
import { Kept } from "./kept.js";
import { Note } from "./note.js";
import { Tree } from "./tree.js";

function Side() {
  const { view, vault: name } = route.value;
  const here = (/** @type {string} */ which) => (view === which ? "page" : undefined);
  return html`<aside class="side" id="side" aria-label="Vault">
    <div class="side-head">
      <a class="brand" href=${to.vaults()} title="All vaults"><img src="/icon.svg" alt="All vaults" width="22" height="22" /></a>
      <a class="vault-name" href=${to.vault(name)} aria-current=${here("home")}>${name}</a>
      ${mayWrite.value && html`<button class="plain icon-only" title="New note (n)" aria-label="New note"
        onClick=${() => void newNote()}><${Icon} name="plus" /></button>`}
      <button class="plain icon-only only-narrow" aria-label="Close the tree"
        onClick=${() => { drawer.value = false; }}><${Icon} name="close" /></button>
    </div>
    <button class="find" onClick=${() => { dialog.value = "palette"; }}>
      <${Icon} name="search" /><span>Open or search</span><kbd>/</kbd></button>
    <${Tree} />
    <nav class="side-foot" aria-label="Vault pages">
      <a href=${to.list(name, "conflicts")} aria-current=${here("conflicts")}><${Icon} name="fork" />Conflicts
        ${conflicts.value > 0 && html`<span class="count">${conflicts.value}</span>`}</a>
      <a href=${to.list(name, "activity")} aria-current=${here("activity")}><${Icon} name="pulse" />Activity</a>
      <a href=${to.list(name, "deleted")} aria-current=${here("deleted")}><${Icon} name="trash" />Deleted notes</a>
      <a href=${to.devices()}><${Icon} name="device" />Devices<span class="who">${nameOf(me.value)}</span></a>
    </nav>
  </aside>`;
}

export function Vault() {
  const { view, path, vault: name } = route.value;
  useEffect(() => { drawer.value = false; }, [route.value]);
  useEffect(() => {
    const keys = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape" && drawer.value) drawer.value = false;
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);
  if (problem.value) {
    return html`<main class="alone"><div><h1>${name}</h1><${Problem} error=${problem.value} />
      <p><a href=${to.vaults()}>All vaults</a></p></div></main>`;
  }
  return html`<div class=${drawer.value ? "frame drawer-open" : "frame"}>
    <a class="skip" href="#main" onClick=${(/** @type {Event} */ event) => {
      event.preventDefault();
      document.getElementById("main")?.focus();
    }}>Skip to the note</a>
    <${Side} />
    <div class="shade" onClick=${() => { drawer.value = false; }}></div>
    <main id="main" tabindex="-1">
      ${refused.value && !signedOut.value ? html`<${Refused} error=${refused.value} />`
        : !heard.value && !signedOut.value && html`<div class="banner quiet" role="status">The server is not heard; trying again…</div>`}
      ${loading.value && !vault.value ? html`<${Waiting} />`
        : view === "note" ? html`<${Note} key=${keyOfNote(name, path)} path=${path} />`
        : view === "history" ? html`<${History} key=${path} path=${path} />`
        : view === "conflicts" ? html`<${Conflicts} key=${path} id=${path} />`
        : view === "deleted" ? html`<${Deleted} />`
        : view === "activity" ? html`<${Activity} />`
        : html`<${Home} />`}
    </main>
  </div>`;
}

/** Somebody's rights have ended: what is open stays for as long as they like. @param {{error: any}} props */
const Refused = ({ error }) => html`<div class="banner" role="alert">
  <span>${error.message} ${error.hint ?? ""} What is open stays, and edits that were not saved are kept in this browser.</span>
  <button onClick=${() => location.reload()}>Try again</button>
</div>`;

/** The bar above a view. @param {{title: any, children?: any, before?: any}} props */
export const Bar = ({ title, children, before }) => html`<header class="bar">
  <button class="plain icon-only only-narrow" aria-label="Open the tree" aria-controls="side"
    aria-expanded=${drawer.value} onClick=${() => { drawer.value = true; }}><${Icon} name="menu" /></button>
  <div class="bar-title">${before}${title}</div>
  <div class="bar-side">${children}</div>
</header>`;

/** Who writes in a session, in words. @param {import("../store.js").Live} session */
export function names(session) {
  const there = others(session);
  const all = [...new Set(there.map(({ name }) => name))];
  if (there.length < session.people.length) all.push(all.length > 0 ? "you" : "only you");
  return [all.slice(0, -1).join(", "), ...all.slice(-1)].filter(Boolean).join(" and ");
}

/** The notes that are open in a session, those with others in it first. */
export const writtenNow = () => live.value.filter(({ people }) => people.length > 0)
  .sort((a, b) => others(b).length - others(a).length);

/** @param {{session: import("../store.js").Live}} props */
export const Written = ({ session }) => html`<a href=${to.edit(session.vault, session.path)}>
  <span class=${others(session).length > 0 ? "dot live" : "dot"}></span><strong>${shownName(session.path)}</strong>
  <small>${names(session)}</small></a>`;

function Home() {
  const name = route.value.vault;
  useTitle(name);
  const all = [...notes.value.values()];
  const last = all.filter(({ path }) => isNote(path)).sort((a, b) => b.changed_ms - a.changed_ms)
    .slice(0, 15);
  const now = writtenNow();
  const count = all.filter(({ path }) => isNote(path)).length;
  return html`<${Bar} title=${html`<h1>${name}</h1>`}>
      <span class="hint">${counted(count, "note")}${all.length > count ? `, ${counted(all.length - count, "file")}` : ""}${vault.value?.access === "read" ? " · read only" : ""}</span>
    <//>
    <div class="column">
      <${Kept} />
      ${conflicts.value > 0 && html`<p class="notice"><a href=${to.list(name, "conflicts")}>${
        counted(conflicts.value, "conflict")} to look at</a>: two edits met in one place, and one was set aside.</p>`}
      ${now.length > 0 && html`<section><h2>Being written now</h2><ul class="lines">${now.map((one) => html`
        <li key=${one.id}><${Written} session=${one} /></li>`)}</ul></section>`}
      <section><h2>Changed last</h2>
        ${last.length === 0 ? html`<p class="empty">No notes yet.${mayWrite.value
          ? html` <button class="plain" onClick=${() => void newNote()}>Write the first</button>` : ""}</p>`
        : html`<ul class="lines">${last.map((note) => html`<li key=${note.note}>
          <a href=${to.note(name, note.path)}><strong>${shownName(note.path)}</strong>
            <small>${place(note.path)}</small><${Time} ms=${note.changed_ms} /></a></li>`)}</ul>`}
      </section>
      <p class="hint only-wide">Press <kbd>/</kbd> to open or search, <kbd>?</kbd> for all keys.</p>
    </div>`;
}
