// Quick open: names as one types, and below them what the notes say.

import { html, useEffect, useMemo, useRef, useState } from "../../vendor/preact.js";
import { createNote, place, shownName, wrongPath } from "../actions.js";
import { at, get, query } from "../api.js";
import { fit, isNote } from "../paths.js";
import { go, to } from "../route.js";
import { mayWrite, notes, vault } from "../store.js";

/** @typedef {{text: string, hit: boolean}} Part */
/** @typedef {{path: string, parts: Part[] | null, create?: boolean}} Entry */

const command = /Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘" : "Ctrl";
const NAMES = 12;
const FILES = 6;
const HITS = 20;

/** @param {{onClose: () => void}} props */
export function Palette({ onClose }) {
  const [typed, setTyped] = useState("");
  const [at_, setAt] = useState(0);
  const [found, setFound] = useState(/** @type {{q: string, hits: any[], indexing: boolean,
    error?: any}} */ ({ q: "", hits: [], indexing: false }));
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const name = vault.value?.name ?? "";
  useEffect(() => input.current?.focus(), []);

  const named = useMemo(() => {
    const all = [...notes.value.values()];
    if (!typed.trim()) {
      return all.sort((a, b) => b.changed_ms - a.changed_ms).slice(0, NAMES);
    }
    const fitting = all.map((note) => ({ note, score: fit(typed, note.path) }))
      .filter(({ score }) => score > 0)
      .sort((a, b) => b.score - a.score || a.note.path.length - b.note.path.length)
      .map(({ note }) => note);
    // Other files crowd no notes out.
    const [texts, files] = [fitting.filter(({ path }) => isNote(path)), fitting.filter(({ path }) => !isNote(path))];
    return [...texts.slice(0, NAMES), ...files.slice(0, FILES)];
  }, [typed, notes.value]);

  useEffect(() => {
    const q = typed.trim();
    if (q.length < 2) {
      setFound({ q, hits: [], indexing: false });
      return undefined;
    }
    // Somebody is quicker than the list of vaults: asked when it is there.
    if (!name) return undefined;
    const abort = new AbortController();
    const timer = setTimeout(() => {
      get(`${at("notes", name, "search")}${query({ q, limit: HITS })}`, { signal: abort.signal })
        .then((answer) => setFound({ q, ...answer }), (error) => {
          if (!abort.signal.aborted) setFound({ q, hits: [], indexing: false, error });
        });
    }, 120);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [typed, name]);

  const shown = new Set(named.map(({ path }) => path));
  const hits = found.hits.filter((hit) => (
    hit.parts.some((/** @type {Part} */ part) => part.hit) || !shown.has(hit.path)));
  const searching = found.q !== typed.trim() && typed.trim().length >= 2;
  /** @type {Entry[]} */
  const found_ = [
    ...named.filter(({ path }) => isNote(path)).map(({ path }) => ({ path, parts: null })),
    ...hits.map(({ path, parts }) => ({ path, parts })),
    ...named.filter(({ path }) => !isNote(path)).map(({ path }) => ({ path, parts: null })),
  ];
  const wanted = typed.trim() && `${typed.trim().replace(/\.md$/i, "")}.md`;
  /** @type {Entry[]} */
  const made = wanted && mayWrite.value && !notes.value.has(wanted) && !wrongPath(wanted)
    ? [{ path: wanted, parts: null, create: true }] : [];
  const entries = [...found_, ...made];
  // Nobody makes a note by looking for one: that line is only taken when somebody goes there.
  const here = found_.length === 0 && at_ === 0 ? -1 : Math.min(
    found_.length === 0 ? at_ - 1 : at_, entries.length - 1);
  useEffect(() => {
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }, [here]);

  const open = (/** @type {Entry | undefined} */ entry) => {
    if (!entry) return;
    onClose();
    const words = entry.parts?.filter(({ hit }) => hit).map(({ text }) => text) ?? [];
    if (entry.create) void createNote(entry.path);
    else go(words.length > 0 ? to.found(name, entry.path, words) : to.note(name, entry.path));
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    // Where nothing is found, place 0 is none of the list's.
    const first = found_.length === 0 ? 1 : 0;
    if (event.key === "ArrowDown") setAt(Math.min(here + 1, entries.length - 1) + first);
    else if (event.key === "ArrowUp") setAt(Math.max(here - 1 + first, 0));
    else if (event.key === "Enter" && !event.isComposing) {
      open(event.ctrlKey || event.metaKey ? made[0] : entries[here]);
    }
    else return;
    event.preventDefault();
  };
  const type = (/** @type {any} */ event) => {
    setTyped(event.target.value);
    setAt(0);
  };

  let n = -1;
  const item = (/** @type {Entry} */ entry) => {
    n += 1;
    const me = n;
    return html`<li key=${`${entry.create ? "+" : entry.parts ? "?" : ""}${entry.path}`} role="option"
        id=${`entry-${me}`} aria-selected=${me === here}
        onPointerMove=${() => { if (me !== here) setAt(me + (found_.length === 0 ? 1 : 0)); }} onClick=${() => open(entry)}>
      <span class="entry-name">${entry.create ? html`New note “${shownName(entry.path)}”` : shownName(entry.path)}
        <small>${place(entry.path)}</small>
        ${!isNote(entry.path) && html`<small class="tag">file</small>`}</span>
      ${entry.create && html`<kbd>${command} Enter</kbd>`}
      ${entry.parts && html`<span class="entry-text">${entry.parts.map((part) => (
        part.hit ? html`<mark>${part.text}</mark>` : part.text))}</span>`}
    </li>`;
  };
  const ofNotes = found_.filter((e) => !e.parts && isNote(e.path));
  const texts = found_.filter((e) => e.parts);
  const files = found_.filter((e) => !e.parts && !isNote(e.path));
  return html`
    <input ref=${input} class="palette-input" value=${typed} onInput=${type} onKeyDown=${keys}
      placeholder="A name, or words of a note" enterkeyhint="go" role="combobox" aria-expanded="true"
      aria-controls="entries" aria-activedescendant=${here >= 0 ? `entry-${here}` : undefined}
      aria-label="Open a note" spellcheck=${false} autocomplete="off" />
    <ul id="entries" class="entries" role="listbox" ref=${list} aria-label="Notes">
      ${!typed.trim() && ofNotes.length > 0 && html`<li class="group" role="presentation">Changed last</li>`}
      ${ofNotes.map(item)}
      ${texts.length > 0 && html`<li class="group" role="presentation">In the text</li>`}
      ${texts.map(item)}
      ${files.length > 0 && typed.trim() && html`<li class="group" role="presentation">Files</li>`}
      ${files.map(item)}
      ${!searching && made.map(item)}
    </ul>
    <p class="hint" role="status">${searching ? "Searching…"
      : found.error ? `Only names: ${found.error.message}`
      : found_.length === 0 ? "Nothing found."
      : found.indexing ? "The newest notes are still being read for search." : ""}</p>`;
}
