// One note: read, or written in.

import {
  html, useEffect, useLayoutEffect, useRef, useState,
} from "../../vendor/preact.js";
import { createNote, deleteNote, place, renameNote } from "../actions.js";
import { at, bytes, get, query } from "../api.js";
import { frontmatter, render, slug } from "../markdown.js";
import { baseName, isNote, title } from "../paths.js";
import { go, instead, noteMoved, route, to } from "../route.js";
import { browserShelf, orphans } from "../live/journal.js";
import { me } from "../session.js";
import { mayWrite, names, notes, writing } from "../store.js";
import {
  Icon, Menu, Problem, Time, Waiting, catchKeys, copy, counted, say, sayError, size, types, useAgain,
  useLoaded, useTitle,
} from "../ui.js";
import { Editor } from "./editor.js";
import { Kept } from "./kept.js";
import { Bar } from "./vault.js";

/** @param {{path: string}} props */
export function Note({ path }) {
  const { vault: name, params } = route.value;
  const known = notes.value.get(path);
  const editing = params.has("edit");
  const [written, setWritten] = useState(/** @type {{note: string, text: string, version: string} | null} */ (null));
  // What was there when the editor opened: it stays with that note, whatever its path becomes.
  const opened = useRef(/** @type {any} */ (null));
  const [loaded, error, again] = useLoaded(async (signal) => {
    if (known?.kind === "asset") return null;
    return get(`${at("notes", name, "note")}${query({ path })}`, { signal });
  }, [path, known?.version, known?.kind]);
  useTitle(title(path));

  // What one wrote is on its way to becoming a version; until then the last one is the older.
  useEffect(() => {
    if (written && loaded && loaded.version !== written.version) setWritten(null);
  }, [loaded?.version]);

  const edit = () => { catchKeys(); instead(to.edit(name, path)); };
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

  const text = written && written.note === loaded?.note ? written.text : loaded?.text ?? "";
  opened.current = editing ? opened.current ?? (loaded && { ...loaded, text }) : null;
  if (opened.current) {
    const { note } = opened.current;
    const done = (/** @type {string | null} */ last) => {
      if (last !== null && loaded) setWritten({ note, text: last, version: loaded.version });
      instead(to.note(name, path));
      again();
    };
    return html`<${Editor} path=${path} loaded=${opened.current} mayWrite=${writable} onDone=${done} />`;
  }
  if (known?.kind === "asset") return html`<${Asset} note=${known} />`;
  if (error?.status === 404) return html`<${NoNote} path=${path} />`;
  if (error && !loaded) return html`<${Bar} title=${html`<${Name} path=${path} />`} /><div class="column"><${Problem} error=${error} again=${again} /></div>`;
  if (!loaded) return html`<${Bar} title=${html`<${Name} path=${path} />`} /><${Waiting} />`;
  const here = writing(path);
  return html`
    <${Bar} title=${html`<${Name} path=${path} />`}>
      ${here.length > 0 && html`<span class="state good">${here.map((one) => one.name).join(", ")} ${
        here.length > 1 ? "are" : "is"} writing here</span>`}
      ${(writable || here.length > 0) && html`<button class="main" onClick=${edit} title=${writable ? "Write (e)" : "Watch (e)"}>
        <${Icon} name="edit" /><span>${!writable ? "Watch live" : here.length > 0 ? "Join" : "Edit"}</span></button>`}
      <a class="button" href=${to.history(name, path)} title="History (h)"><${Icon} name="clock" /><span class="only-wide">History</span></a>
      <${Menu} label="More">
        ${writable && html`<button role="menuitem" onClick=${() => void renameNote(path, loaded.version)}>Rename or move…</button>`}
        <button role="menuitem" onClick=${async () => { await copy(location.href); say("The address is copied."); }}>Copy address</button>
        <button role="menuitem" onClick=${() => void download(name, path)}>Download</button>
        ${writable && html`<button role="menuitem" class="danger" onClick=${() => void deleteNote(path, loaded.version)}>Delete…</button>`}
      <//>
    <//>
    <div class="column reading">
      ${loaded.conflicts > 0 && html`<p class="notice"><a href=${to.list(name, "conflicts")}>${
        counted(loaded.conflicts, "conflict")} in this note</a></p>`}
      ${writable && html`<${Unsent} note=${loaded.note} onOpen=${edit} />`}
      <${Rendered} path=${path} text=${text} />
      <footer class="note-foot">
        ${loaded.changed && html`<p class="hint">Changed <${Time} ms=${loaded.changed.ms} />${
          loaded.changed.by ? html` by ${loaded.changed.by}` : ""}${loaded.changed.device ? html`, ${loaded.changed.device}` : ""}</p>`}
        <${Links} path=${path} version=${known?.version ?? loaded.version} />
      </footer>
    </div>`;
}

/** Edits of an earlier visit that no server took: opened, they are sent. @param {{note: string, onOpen: () => void}} props */
function Unsent({ note, onOpen }) {
  const [drafts] = useLoaded(
    () => orphans(browserShelf(), me.value?.user ?? "", note), [note]);
  return drafts && drafts.length > 0 ? html`<p class="notice">There are edits of yours in this browser that
    were not saved yet. <button class="plain" onClick=${onOpen}>Open the note to save them</button></p>` : null;
}

/** Folder and name of a note. @param {{path: string}} props */
export const Name = ({ path }) => html`<h1 class="note-name" title=${path}>
  <small>${place(path)}</small>${isNote(path) ? title(path) : baseName(path)}</h1>`;

/** @param {{path: string}} props */
function NoNote({ path }) {
  return html`<${Bar} title=${html`<${Name} path=${path} />`} />
    <div class="column"><p class="empty">There is no note of this name.</p>
      ${mayWrite.value && html`<p><button class="main" onClick=${() => void createNote(path)}>Create it</button></p>`}
      <${Kept} />
    </div>`;
}

/** @param {{path: string, text: string}} props */
export function Rendered({ path, text }) {
  const { vault: name, params } = route.value;
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const { fields } = frontmatter(text);
  const heading = params.get("h");
  const [missing, setMissing] = useState(/** @type {any} */ (null));
  const [turn, setTurn] = useState(0);
  useAgain(missing, () => { setMissing(null); setTurn((was) => was + 1); });
  useLayoutEffect(() => {
    const target = box.current;
    if (!target) return undefined;
    const find = (/** @type {string} */ wanted) => names.value.find(wanted, path);
    target.replaceChildren(render(text, { vault: name, path, find }));
    const abort = new AbortController();
    for (const image of target.querySelectorAll("img.asset")) {
      void show(/** @type {HTMLImageElement} */ (image), name, abort.signal, setMissing);
    }
    return () => {
      abort.abort();
      for (const image of target.querySelectorAll("img.asset")) {
        if (image instanceof HTMLImageElement && image.src) URL.revokeObjectURL(image.src);
      }
    };
  }, [text, path, names.value, turn]);
  useEffect(() => {
    if (heading) document.getElementById(`h-${slug(heading)}`)?.scrollIntoView();
  }, [heading, text]);
  const click = (/** @type {MouseEvent} */ event) => {
    const link = /** @type {Element} */ (event.target).closest?.("a[data-path]");
    if (!link) return;
    event.preventDefault();
    const target = link.getAttribute("data-path") ?? "";
    if (notes.value.get(target)?.kind === "asset") go(to.note(name, target));
    else void download(name, target);
  };
  return html`
    ${fields.length > 0 && html`<table class="frontmatter"><caption class="away">Properties</caption><tbody>
      ${fields.map(({ key, values }) => html`<tr><th scope="row">${key}</th>
        <td>${values.length > 1 || /^(tags|aliases)$/i.test(key)
          ? values.map((value) => html`<span class="tag">${value}</span>`) : values[0] ?? ""}</td></tr>`)}
      </tbody></table>`}
    <article class="markdown" ref=${box} onClick=${click}></article>`;
}

/** @type {Record<string, string>} */
const KINDS = {
  png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp",
  avif: "image/avif", svg: "image/svg+xml", bmp: "image/bmp", ico: "image/x-icon",
};

/** The bytes of a file as something an `img` takes. @param {string} name @param {string} path @param {AbortSignal} [signal] */
async function blobUrl(name, path, signal) {
  const blob = await bytes(`${at("notes", name, "file")}${query({ path })}`, signal);
  const end = path.slice(path.lastIndexOf(".") + 1).toLowerCase();
  return URL.createObjectURL(new Blob([blob], { type: KINDS[end] ?? "application/octet-stream" }));
}

/**
 * @param {HTMLImageElement} image
 * @param {string} name
 * @param {AbortSignal} signal
 * @param {(error: any) => void} onMissing it may be there another time
 */
async function show(image, name, signal, onMissing) {
  const wanted = image.dataset.path ?? "";
  const path = notes.value.has(wanted) ? wanted : names.value.find(wanted, "") ?? wanted;
  try {
    const url = await blobUrl(name, path, signal);
    if (signal.aborted) URL.revokeObjectURL(url);
    else image.src = url;
  } catch (error) {
    if (signal.aborted) return;
    const words = document.createElement("span");
    words.className = "no-image";
    const { status, message } = /** @type {{status?: number, message?: string}} */ (error);
    words.textContent = status === 404 ? `Picture not found: ${wanted}` : `${wanted}: ${message}`;
    image.replaceWith(words);
    if (status === 0 || (status ?? 0) >= 500) onMissing(error);
  }
}

/** @param {string} name @param {string} path */
export async function download(name, path) {
  try {
    const blob = await bytes(`${at("notes", name, "file")}${query({ path })}`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = baseName(path);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    sayError(error);
  }
}

/** @param {{note: import("../paths.js").Note}} props */
function Asset({ note }) {
  const { vault: name } = route.value;
  const picture = /\.(png|jpe?g|gif|webp|avif|svg|bmp|ico)$/i.test(note.path);
  const [url, error] = useLoaded(
    async (signal) => (picture ? blobUrl(name, note.path, signal) : null), [note.version]);
  useEffect(() => () => { if (url) URL.revokeObjectURL(url); }, [url]);
  return html`<${Bar} title=${html`<${Name} path=${note.path} />`}>
      <button class="main" onClick=${() => void download(name, note.path)}>Download</button>
      <a class="button" href=${to.history(name, note.path)}><${Icon} name="clock" /><span class="only-wide">History</span></a>
    <//>
    <div class="column">
      ${error && html`<${Problem} error=${error} />`}
      ${url && html`<img class="picture" src=${url} alt=${baseName(note.path)} />`}
      <p class="hint">${size(note.bytes)}, changed <${Time} ms=${note.changed_ms} /></p>
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
