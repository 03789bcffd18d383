// One note: read, or written in.

import { html, useEffect, useMemo, useRef, useState } from "../../vendor/preact.js";
import { createNote, deleteNote, place, renameNote, restore, shownName } from "../actions.js";
import { all, at, get, post, query } from "../api.js";
import { download } from "../files.js";
import { baseName, isNote, title } from "../paths.js";
import { go, instead, noteMoved, route, to } from "../route.js";
import { LET_GO, browserShelf, orphans } from "../live/journal.js";
import { me } from "../session.js";
import { mayWrite, notes, refresh, writing } from "../store.js";
import { Ticks } from "../tasks.js";
import {
  Icon, Menu, Problem, Time, Waiting, catchKeys, copy, counted, say, sayError, types, useEvent, useLoaded,
  useTitle,
} from "../ui.js";
import { Editor } from "./editor.js";
import { File } from "./file.js";
import { Kept } from "./kept.js";
import { Rendered } from "./rendered.js";
import { Bar } from "./vault.js";

/** @param {{path: string}} props */
export function Note({ path }) {
  const { vault: name, params } = route.value;
  const known = notes.value.get(path);
  const editing = params.has("edit");
  const [written, setWritten] = useState(/** @type {{note: string, text: string, version: string} | null} */ (null));
  // What was there when the editor opened: it stays with that note, whatever its path becomes.
  const opened = useRef(/** @type {any} */ (null));
  const here = useRef(path);
  here.current = path;
  const ticks = useMemo(() => new Ticks(async (base, text) => {
    const change = { op: "edit", path: here.current, base, text };
    return (await post(at("notes", name, "changes"), change)).version;
  }), []);
  const [, draw] = useState(0);
  const [loaded, error, again] = useLoaded(async (signal) => {
    if (known?.kind === "asset") return null;
    const { stored } = ticks;
    return { ...await get(`${at("notes", name, "note")}${query({ path })}`, { signal }), stored };
  }, [path, known?.version, known?.kind]);
  useTitle(title(path));

  // What one wrote is on its way to becoming a version; until then the last one is the older.
  useEffect(() => {
    if (written && loaded && loaded.version !== written.version) setWritten(null);
  }, [loaded?.version]);

  const line = useRef(/** @type {number | null} */ (null));
  const edit = () => {
    catchKeys();
    line.current = lineInSight();
    instead(to.edit(name, path));
  };
  // Who reads a note goes with it where it is moved to.
  useEffect(() => {
    if (editing || !loaded || notes.value.has(path)) return;
    const there = [...notes.value.values()].find(({ note }) => note === loaded.note);
    if (!there) return;
    noteMoved(name, there.path);
    instead(to.note(name, there.path));
  }, [notes.value]);
  const writable = mayWrite.value && loaded?.access !== "read";
  useEffect(() => {
    if (editing) return undefined;
    const keys = (/** @type {KeyboardEvent} */ event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || types(event.target)
        || document.querySelector("dialog[open]") || known?.kind === "asset") return;
      if (event.key === "e" && (writable || writing(path).length > 0)) edit();
      else if (event.key === "h") go(to.history(name, path));
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, [editing, path, known?.kind, writable]);

  const text = (loaded && ticks.over(loaded.stored))
    ?? (written && written.note === loaded?.note ? written.text : loaded?.text ?? "");
  const tick = (/** @type {number} */ place, /** @type {boolean} */ done) => {
    const sent = ticks.tick(loaded, text, place, done).catch((problem) => {
      ticks.drop();
      sayError(problem);
    });
    void sent.then(() => { draw((was) => was + 1); again(); refresh(); });
    draw((was) => was + 1);
  };
  opened.current = editing ? opened.current ?? (loaded && { ...loaded, text }) : null;
  if (opened.current) {
    const { note } = opened.current;
    const done = (/** @type {string | null} */ last) => {
      if (last !== null && loaded) setWritten({ note, text: last, version: loaded.version });
      instead(to.note(name, path));
      again();
    };
    return html`<${Editor} path=${path} loaded=${opened.current} line=${line.current} mayWrite=${writable} onDone=${done} />`;
  }
  if (known?.kind === "asset") return html`<${File} note=${known} />`;
  if (error?.status === 404) return html`<${NoNote} path=${path} />`;
  if (error && !loaded) return html`<${Bar} title=${html`<${Name} path=${path} />`} /><div class="column"><${Problem} error=${error} again=${again} /></div>`;
  if (!loaded) return html`<${Bar} title=${html`<${Name} path=${path} />`} /><${Waiting} />`;
  const people = writing(path);
  return html`
    <${Bar} title=${html`<${Name} path=${path} />`}>
      ${people.length > 0 && html`<span class="state good">${people.map((one) => one.name).join(", ")} ${
        people.length > 1 ? "are" : "is"} writing here</span>`}
      ${(writable || people.length > 0) && html`<button class="main" onClick=${edit} title=${writable ? "Write (e)" : "Watch (e)"}>
        <${Icon} name="edit" /><span>${!writable ? "Watch live" : people.length > 0 ? "Join" : "Edit"}</span></button>`}
      <a class="button" href=${to.history(name, path)} title="History (h)"><${Icon} name="clock" /><span class="only-wide">History</span></a>
      <${Menu} label="More">
        ${writable && html`<button role="menuitem" onClick=${() => void renameNote(path, loaded.version)}>Rename or move…</button>`}
        <button role="menuitem" onClick=${async () => { await copy(new URL(to.note(name, path), location.href).href); say("The address is copied."); }}>Copy address</button>
        <button role="menuitem" onClick=${() => void download(name, path)}>Download</button>
        ${writable && html`<button role="menuitem" class="danger" onClick=${() => void deleteNote(path, loaded.version)}>Delete…</button>`}
      <//>
    <//>
    <div class="column reading">
      ${loaded.conflicts > 0 && html`<p class="notice"><a href=${to.list(name, "conflicts")}>${
        counted(loaded.conflicts, "conflict")} in this note</a></p>`}
      ${writable && html`<${Unsent} note=${loaded.note} onOpen=${edit} />`}
      <${Rendered} path=${path} text=${text} onTick=${writable ? tick : null} />
      <footer class="note-foot">
        ${loaded.changed && html`<p class="hint">Changed <${Time} ms=${loaded.changed.ms} />${
          loaded.changed.by ? html` by ${loaded.changed.by}` : ""}${loaded.changed.device ? html`, ${loaded.changed.device}` : ""}</p>`}
        <${Links} path=${path} version=${known?.version ?? loaded.version} />
      </footer>
    </div>`;
}

/** The line of the note at which the reader is; null at its beginning. */
function lineInSight() {
  const main = document.getElementById("main");
  if (!main || main.scrollTop === 0) return null;
  const top = main.getBoundingClientRect().top + (main.querySelector(".bar")?.clientHeight ?? 0);
  const marked = [...(globalThis.CSS?.highlights?.get("found") ?? [])].map((range) => /** @type {Range} */ (range).getBoundingClientRect())
    .find((rect) => rect.top > top && rect.bottom < innerHeight);
  const blocks = /** @type {HTMLElement[]} */ ([...main.querySelectorAll("article [data-line]")]);
  const within = (/** @type {HTMLElement} */ one) => {
    const rect = one.getBoundingClientRect();
    return marked ? rect.top <= marked.top && rect.bottom >= marked.bottom : rect.top >= top && rect.top < innerHeight;
  };
  // Of blocks within blocks the innermost has the words.
  const here = marked ? blocks.findLast(within) : blocks.find(within) ?? blocks.findLast((one) => one.getBoundingClientRect().top < top);
  return here ? Number(here.dataset.line) : null;
}

/** Edits of an earlier visit that no server took: opened, they are sent. @param {{note: string, onOpen: () => void}} props */
function Unsent({ note, onOpen }) {
  const [drafts, , again] = useLoaded(
    () => orphans(browserShelf(), me.value?.user ?? "", note), [note]);
  useEvent(LET_GO, again);
  return drafts && drafts.length > 0 ? html`<p class="notice">There are edits of yours in this browser that
    were not saved yet. <button class="plain" onClick=${onOpen}>Open the note to save them</button></p>` : null;
}

/** Folder and name of a note. @param {{path: string}} props */
export const Name = ({ path }) => html`<h1 class="note-name" title=${path}>
  <small>${place(path)}</small>${isNote(path) ? title(path) : baseName(path)}</h1>`;

/** @param {{path: string}} props */
function NoNote({ path }) {
  const name = route.value.vault;
  const [gone] = useLoaded(async (signal) => {
    const { items } = await all(`${at("notes", name, "deleted")}?limit=500`, "notes", signal);
    return items.find((one) => one.path === path) ?? null;
  }, [path, notes.value]);
  return html`<${Bar} title=${html`<${Name} path=${path} />`} />
    <div class="column"><p class="empty">There is no note of this name.</p>
      ${gone && html`<p>It was deleted <${Time} ms=${gone.ms} />${gone.by ? ` by ${gone.by.split("@")[0]}` : ""}.
        ${mayWrite.value && html`<button onClick=${() => void restore(gone.last, `${shownName(path)} is back.`, path)}>Restore it</button>`}</p>`}
      ${mayWrite.value && html`<p><button class="main" onClick=${() => void createNote(path)}>Create it</button></p>`}
      <${Kept} />
    </div>`;
}

/** @param {{path: string, version: string}} props */
function Links({ path, version }) {
  const name = route.value.vault;
  const [links] = useLoaded((signal) => get(`${at("notes", name, "links")}${query({ path })}`, { signal }),
    [path, version]);
  if (!links || links.backlinks.length === 0) return null;
  return html`<section class="backlinks" aria-label="Backlinks">
    <h2>Linked from ${counted(links.backlinks.length, "place")}</h2>
    <ul class="lines">${links.backlinks.map((/** @type {any} */ one) => html`
      <li><a href=${to.note(name, one.path)}><strong>${one.title || title(one.path)}</strong>
        <small class="quote">${one.text}</small></a></li>`)}</ul>
  </section>`;
}
