// The tree of a vault. Only the rows in sight are drawn; the focus stays on the tree, which says
// by `aria-activedescendant` where it is.

import {
  html, signal, useEffect, useLayoutEffect, useMemo, useRef, useState,
} from "../../vendor/preact.js";
import { rowsOf } from "../paths.js";
import { go, route, to } from "../route.js";
import { live, others, tree, vault } from "../store.js";
import { Icon } from "../ui.js";
import { drawer } from "../dialogs.js";

const ROW = 32;

/** @type {import("../../vendor/preact.js").Signal<Set<string>>} */
const opened = signal(new Set());

/** @param {string} path @param {boolean} [on] */
function toggle(path, on) {
  const next = new Set(opened.value);
  if (on ?? !next.has(path)) next.add(path);
  else next.delete(path);
  opened.value = next;
}

export function Tree() {
  const rows = useMemo(() => rowsOf(tree.value, opened.value), [tree.value, opened.value]);
  const frame = useRef(/** @type {HTMLElement | null} */ (null));
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(800);
  const [at, setAt] = useState("");
  const { view, path } = route.value;
  const current = view === "note" || view === "history" ? path : "";

  // The note that is open is in sight, its folders open.
  useEffect(() => {
    if (!current) return;
    const next = new Set(opened.value);
    const parts = current.split("/").slice(0, -1);
    parts.forEach((_, n) => next.add(parts.slice(0, n + 1).join("/")));
    if (next.size !== opened.value.size) opened.value = next;
    setAt(current);
  }, [current]);
  const index = rows.findIndex((row) => row.path === at);
  useLayoutEffect(() => {
    const box = frame.current;
    if (!box || index < 0) return;
    if (index * ROW < box.scrollTop) box.scrollTop = index * ROW;
    else if ((index + 1) * ROW > box.scrollTop + box.clientHeight) {
      box.scrollTop = (index + 1) * ROW - box.clientHeight;
    }
  }, [at, index >= 0]);
  useEffect(() => {
    const box = frame.current;
    if (!box) return undefined;
    const look = () => setHeight(box.clientHeight);
    const observer = new ResizeObserver(look);
    observer.observe(box);
    look();
    return () => observer.disconnect();
  }, []);

  const name = vault.value?.name ?? "";
  const open = (/** @type {import("../paths.js").Row} */ row) => {
    setAt(row.path);
    if (row.folder) toggle(row.path);
    else {
      drawer.value = false;
      go(to.note(name, row.path));
    }
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const here = rows[Math.max(index, 0)];
    const move = (/** @type {number} */ to) => (
      setAt(rows[Math.min(Math.max(to, 0), rows.length - 1)]?.path ?? ""));
    switch (event.key) {
      case "ArrowDown": move(index + 1); break;
      case "ArrowUp": move(index - 1); break;
      case "Home": move(0); break;
      case "End": move(rows.length - 1); break;
      case "PageDown": move(index + Math.floor(height / ROW)); break;
      case "PageUp": move(index - Math.floor(height / ROW)); break;
      case "ArrowRight":
        if (here?.folder && !here.open) toggle(here.path, true);
        else move(index + 1);
        break;
      case "ArrowLeft":
        if (here?.folder && here.open) toggle(here.path, false);
        else if (here?.path.includes("/")) setAt(here.path.slice(0, here.path.lastIndexOf("/")));
        break;
      case "Enter":
      case " ":
        if (here) open(here);
        break;
      default: return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  // The first row in sight is where one begins; a click says itself where.
  const pointed = useRef(false);
  const begin = () => {
    if (index < 0 && !pointed.current) setAt(rows[Math.ceil(top / ROW)]?.path ?? "");
    pointed.current = false;
  };

  const from = Math.max(0, Math.floor(top / ROW) - 10);
  const until = Math.min(rows.length, Math.ceil((top + height) / ROW) + 10);
  const written = new Set(live.value.filter((one) => others(one).length > 0).map((one) => one.path));
  return html`<div class="tree" role="tree" aria-label="Notes" tabindex="0" ref=${frame}
      aria-activedescendant=${index >= from && index < until ? `row-${index}` : undefined}
      onKeyDown=${keys} onFocus=${begin} onPointerDown=${() => { pointed.current = true; }}
      onClick=${() => { pointed.current = false; }}
      onScroll=${(/** @type {any} */ event) => setTop(event.currentTarget.scrollTop)}>
    <div class="tree-rows" role="presentation" style=${`height: ${rows.length * ROW}px`}>
      ${rows.slice(from, until).map((row, n) => {
        const here = from + n;
        const kind = row.folder ? "folder" : row.note?.kind ?? "note";
        const classes = ["row", kind, row.path === current && "current", row.path === at && "at"]
          .filter(Boolean).join(" ");
        return html`<div key=${`${kind} ${row.path}`} id=${`row-${here}`} class=${classes} role="treeitem"
            aria-level=${row.depth + 1} aria-selected=${row.path === current}
            aria-expanded=${row.folder ? row.open : undefined} title=${row.path}
            style=${`top: ${here * ROW}px; padding-left: ${10 + row.depth * 16}px`}
            onClick=${() => open(row)}>
          ${row.folder ? html`<span class=${row.open ? "turn open" : "turn"}><${Icon} name="chevron" /></span>`
            : html`<span class="turn"></span>`}
          <span class="row-name">${row.name}</span>
          ${written.has(row.path) && html`<span class="dot live" title="Somebody is writing here"></span>`}
          ${row.note && row.note.conflicts > 0
            && html`<span class="dot conflict" title="There is a conflict in it"></span>`}
        </div>`;
      })}
    </div>
  </div>`;
}
