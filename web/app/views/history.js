// What a note was: who changed it, when, on which device, and how; and back to any of it.

import { html, useEffect, useMemo, useState } from "../../vendor/preact.js";
import { place, restore, shownName } from "../actions.js";
import { all, at, query, text } from "../api.js";
import { go, route, to } from "../route.js";
import { nameOf } from "../session.js";
import { sittings, when } from "../sittings.js";
import { mayWrite, notes, writing } from "../store.js";
import { Icon, Problem, Time, Waiting, ask, size, useLoaded, useTitle } from "../ui.js";
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

/** Who did it. @param {Revision[]} sitting */
export const authors = (sitting) => {
  const [one] = sitting;
  if (one.author === "merge" && !one.user) return "Merge";
  const known = (/** @type {any} */ user) => nameOf(user && { email: user.email, user: user.id });
  // In a live session several write one version; somebody on two devices is one of them.
  const all = sitting.flatMap(({ user, with: others }) => (
    [user, ...(others ?? []).map((other) => other.user)])).map(known);
  return [...new Set(all)].join(" and ");
};

/** On which devices, before the time. @param {Revision[]} sitting */
const devices = (sitting) => {
  const all = sitting.flatMap(({ device, with: others }) => (
    [device, ...(others ?? []).map((other) => other.device)]));
  const names = [...new Set(all.flatMap((device) => device?.name ?? []))];
  return names.length > 0 ? `${names.join(", ")} · ` : "";
};

/**
 * A line of the list, and the place of its newest version.
 * @typedef {{key: string, first: number, sitting: [Revision, ...Revision[]]}} Row
 */

/** @param {Revision[]} list of one note @returns {Row[]} */
function rowsOf(list) {
  let next = 0;
  return sittings(list).map((sitting) => {
    const first = next;
    next += sitting.length;
    // Its oldest version: newer ones join a sitting while one looks at it.
    return { key: /** @type {Revision} */ (sitting.at(-1)).version, first, sitting };
  });
}

/** How long a sitting was, in words. @param {[Revision, ...Revision[]]} sitting */
function lasted(sitting) {
  const seconds = Math.ceil((when(sitting[0]) - when(sitting.at(-1) ?? sitting[0])) / 1000);
  return seconds < 100 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

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
  // By its name: newer ones come while somebody looks at it. Null is the newest, whatever comes.
  const [chosen, setChosen] = useState(/** @type {string | null} */ (null));
  const [open, setOpen] = useState(/** @type {Set<string>} */ (new Set()));
  const [whole, setWhole] = useState(false);
  const [now, setNow] = useState(false);
  const count = list?.length ?? 0;
  const index = Math.max(list?.findIndex(({ version }) => version === chosen) ?? 0, 0);
  const choose = (/** @type {number} */ place) => setChosen(place === 0 ? null : list?.[place]?.version ?? null);
  const one = list?.[index];
  const rows = useMemo(() => rowsOf(list ?? []), [list]);
  // The slider stops at every version; the list shows those of a sitting where one looks at them.
  const isOpen = (/** @type {Row} */ row) => (
    open.has(row.key) || (index > row.first && index < row.first + row.sitting.length));
  const shown = rows.flatMap((row) => (isOpen(row) ? row.sitting.map((_, n) => row.first + n) : [row.first]));
  const row = rows.find(({ first, sitting }) => index >= first && index < first + sitting.length);
  // What is shown is set against what was before it: its first parent, nearly always the one below.
  const oldest = one && row && index === row.first && !isOpen(row) ? row.sitting.at(-1) ?? one : one;
  const parent = useMemo(() => {
    if (!oldest || !list) return null;
    return list.find(({ version }) => version === oldest.parents[0]) ?? null;
  }, [oldest, list]);

  const move = (/** @type {number} */ by) => {
    const to = shown.indexOf(index) + by;
    if (to >= 0 && to < shown.length) choose(shown[to]);
  };
  const toggle = (/** @type {Row} */ which) => {
    const next = new Set(open);
    if (isOpen(which)) {
      next.delete(which.key);
      if (which === row) choose(which.first);
    } else {
      next.add(which.key);
    }
    setOpen(next);
  };
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
            aria-valuetext=${`${deed(one)} by ${authors([one])}, ${new Date(when(one)).toLocaleString()}`}
            onInput=${(/** @type {any} */ event) => choose(count - 1 - Number(event.target.value))} />
          <span class="slider-ends" aria-hidden="true"><span>first</span><span>now</span></span></label>
        <ol class="timeline" aria-label="Versions, newest first">
          ${rows.map((each) => {
            const several = each.sitting.length > 1;
            const opened = several && isOpen(each);
            const versions = opened ? each.sitting : each.sitting.slice(0, 1);
            return html`${versions.map((version, n) => html`<li key=${version.version} class=${opened && n > 0 ? "within" : ""}>
              <button aria-current=${each.first + n === index ? "true" : undefined} onClick=${() => choose(each.first + n)}>
                <span><strong>${authors(opened ? [version] : each.sitting)}</strong> ${deed(version)}</span>
                <small>${devices(opened ? [version] : each.sitting)}<${Time} ms=${when(version)} /></small>
              </button>
              ${several && n === 0 && html`<button class="plain sitting" aria-expanded=${opened}
                onClick=${() => toggle(each)}><span class=${opened ? "turn open" : "turn"}><${Icon} name="chevron" /></span>${
                  each.sitting.length} versions, ${lasted(each.sitting)}</button>`}</li>`)}`;
          })}
        </ol>
      </div>
      <section class="history-what" aria-label="What changed">
        <div class="history-tools">
          <label><input type="checkbox" checked=${whole} onChange=${() => setWhole(!whole)} /> Whole text</label>
          <label><input type="checkbox" checked=${now} disabled=${index === 0} onChange=${() => setNow(!now)} /> Against now</label>
          ${one.path !== null && index > 0 && mayWrite.value && html`<button class="main"
            onClick=${() => void restoreThis(one, head ?? one)}>Restore this</button>`}
        </div>
        <${Change} key=${`${one.version} ${oldest?.version} ${now}`} name=${name} whole=${whole}
          before=${now && index > 0 ? one : parent} parent=${now ? "" : oldest?.parents[0] ?? ""}
          after=${now && index > 0 && head ? head : one} />
      </section>
    </div>`}`;
}

/** @param {Revision} one @param {Revision} head what stands now */
async function restoreThis(one, head) {
  const here = [...new Set(writing(head.path ?? "").map(({ name }) => name))].join(", ");
  const yes = !here || await ask({
    title: "Restore this version?",
    text: `${here} is writing in the note, and sees it change. What stands there now stays in its history.`,
    ok: "Restore",
  });
  if (yes) {
    await restore(one.version, "Restored.", one.path ?? undefined,
      head.path !== null ? head.version : undefined);
  }
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
