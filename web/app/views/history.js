// What a note was: who changed it, when, on which device, and how; and back to any of it.

import { html, useEffect, useMemo, useState } from "../../vendor/preact.js";
import { place, restore, shownName } from "../actions.js";
import { all, at, query, text } from "../api.js";
import { go, route, to } from "../route.js";
import { nameOf } from "../session.js";
import { mayWrite, notes } from "../store.js";
import { Icon, Problem, Time, Waiting, size, useLoaded, useTitle } from "../ui.js";
import { Compare } from "./compare.js";
import { Name } from "./note.js";
import { Bar } from "./vault.js";

/** @typedef {import("../store.js").Revision} Revision */

/** @type {Record<string, string>} */
const DONE = {
  create: "created", edit: "edited", rename: "renamed", delete: "deleted", merge: "merged",
  restore: "restored",
};

/** What a revision did, in words. @param {Revision} one */
export function deed(one) {
  if (one.op === "rename" && one.from && one.path) {
    return `renamed from ${place(one.from)}${shownName(one.from)}`;
  }
  return DONE[one.op] ?? one.op;
}

/** Who did it. @param {Revision} one */
export const author = (one) => {
  if (one.author === "merge" && !one.user) return "Merge";
  const known = (/** @type {any} */ user) => nameOf(user && { email: user.email, user: user.id });
  // In a live session several write one version; somebody on two devices is one of them.
  const all = [one.user, ...(one.with ?? []).map(({ user }) => user)].map(known);
  return [...new Set(all)].join(" and ");
};

/** @param {{path: string}} props */
export function History({ path }) {
  const { vault: name } = route.value;
  const note = notes.value.get(path);
  useTitle(`History of ${shownName(path)}`);
  const [list, error, again] = useLoaded(async (signal) => {
    const which = query({ ...(note ? { note: note.note } : { path }), limit: 200 });
    const { items } = await all(`${at("history", name)}${which}`, "revisions", signal);
    return /** @type {Revision[]} */ (items);
  }, [path, note?.version]);
  const [chosen, setChosen] = useState(0);
  const [whole, setWhole] = useState(false);
  const [now, setNow] = useState(false);
  const count = list?.length ?? 0;
  const index = Math.min(chosen, Math.max(count - 1, 0));
  const one = list?.[index];
  // What it is set against: its first parent, which is nearly always the entry below.
  const parent = useMemo(() => {
    if (!one || !list) return null;
    return list.find(({ version }) => version === one.parents[0]) ?? null;
  }, [one, list]);

  const move = (/** @type {number} */ by) => (
    setChosen(Math.min(Math.max(index + by, 0), Math.max(count - 1, 0))));
  useEffect(() => {
    const keys = (/** @type {KeyboardEvent} */ event) => {
      if (event.ctrlKey || event.metaKey || event.altKey
        || document.querySelector("dialog[open]")) return;
      const target = /** @type {HTMLElement} */ (event.target);
      if (target.closest?.("input, [role=tree], [role=menu]")) return;
      if (event.key === "ArrowDown" || event.key === "j") move(1);
      else if (event.key === "ArrowUp" || event.key === "k") move(-1);
      else if (event.key === "Escape") go(to.note(name, path));
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  });
  useEffect(() => {
    document.querySelector(".timeline [aria-current]")?.scrollIntoView({ block: "nearest" });
  }, [index]);

  const head = list?.[0];
  const title = html`<a class="back" href=${to.note(name, path)} aria-label="Back to the note" title="Back to the note (Esc)"><${Icon} name="back" /></a>`;
  return html`<${Bar} before=${title} title=${html`<${Name} path=${path} />`}>
      <span class="hint only-wide">History</span>
    <//>
    ${error && html`<div class="column"><${Problem} error=${error} again=${again} /></div>`}
    ${!list && !error && html`<${Waiting} />`}
    ${list && count === 0 && html`<div class="column"><p class="empty">Nothing is known of this note.</p></div>`}
    ${list && one && html`<div class="history">
      <div class="history-past">
        <label class="slider"><span class="away">Through time</span>
          <input type="range" min="0" max=${count - 1} value=${count - 1 - index} disabled=${count < 2}
            aria-valuetext=${`${deed(one)} by ${author(one)}, ${new Date(one.received_ms ?? one.stamp.ms).toLocaleString()}`}
            onInput=${(/** @type {any} */ event) => setChosen(count - 1 - Number(event.target.value))} />
          <span class="slider-ends" aria-hidden="true"><span>first</span><span>now</span></span></label>
        <ol class="timeline" aria-label="Versions, newest first">
          ${list.map((each, n) => html`<li key=${each.version}>
            <button aria-current=${n === index ? "true" : undefined} onClick=${() => setChosen(n)}>
              <span><strong>${author(each)}</strong> ${deed(each)}</span>
              <small>${each.device?.name ? `${each.device.name} · ` : ""}<${Time} ms=${each.received_ms ?? each.stamp.ms} /></small>
            </button></li>`)}
        </ol>
      </div>
      <section class="history-what" aria-label="What changed">
        <div class="history-tools">
          <label><input type="checkbox" checked=${whole} onChange=${() => setWhole(!whole)} /> Whole text</label>
          <label><input type="checkbox" checked=${now} disabled=${index === 0} onChange=${() => setNow(!now)} /> Against now</label>
          ${one.path !== null && index > 0 && mayWrite.value && html`<button class="main"
            onClick=${() => void restore(one.version, "Restored.", one.path ?? undefined,
              head && head.path !== null ? head.version : undefined)}>Restore this</button>`}
        </div>
        <${Change} key=${`${one.version} ${now}`} name=${name} whole=${whole}
          before=${now && index > 0 ? one : parent} parent=${now ? "" : one.parents[0] ?? ""}
          after=${now && index > 0 && head ? head : one} />
      </section>
    </div>`}`;
}

/** The text of a version; empty for none. @param {string} name @param {string} version @param {AbortSignal} signal */
export const textOf = (name, version, signal) => (version
  ? text(at("history", name, "revisions", version, "content"), signal) : Promise.resolve(""));

/**
 * @param {{name: string, before: Revision | null, parent: string, after: Revision,
 *   whole: boolean}} props
 */
function Change({ name, before, parent, after, whole }) {
  const from = before ? (before.path === null ? "" : before.version) : parent;
  const isAsset = after.kind === "asset";
  const [texts, error] = useLoaded(async (signal) => {
    if (isAsset) return null;
    return Promise.all([textOf(name, from, signal),
      after.path === null ? "" : textOf(name, after.version, signal)]);
  }, [from, after.version]);
  if (isAsset) return html`<p class="empty">A file of ${size(after.bytes ?? 0)}; what changed in it cannot be shown.</p>`;
  if (error) return html`<${Problem} error=${error} />`;
  if (!texts) return html`<${Waiting} />`;
  return html`
    ${after.path === null && html`<p class="notice">Here the note was deleted.</p>`}
    <${Compare} before=${texts[0]} after=${texts[1]} whole=${whole} />`;
}
