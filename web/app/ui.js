// Small things that every view uses.

import { html, signal, useEffect, useLayoutEffect, useRef, useState } from "../vendor/preact.js";
import { heard } from "./store.js";

/** @typedef {import("../vendor/preact.js").ComponentChildren} Children */

// ---- icons: paths of our own, 20 × 20, drawn with the text's colour ----

const ICONS = {
  note: "M5 2.5h7l3.5 3.5v11.5h-10.500z M12 2.500v3.500h3.500",
  folder: "M2.500 5.500h5l1.500 2h8.500v9h-15z",
  chevron: "M7.500 5l5 5-5 5",
  search: "M8.500 3a5.500 5.500 0 1 0 0 11a5.500 5.500 0 1 0 0-11z M12.700 12.700l4.300 4.300",
  plus: "M10 4v12 M4 10h12",
  menu: "M3 5.500h14 M3 10h14 M3 14.500h14",
  close: "M5 5l10 10 M15 5l-10 10",
  edit: "M13 3.500l3.500 3.500-9 9-4.500 1 1-4.500z",
  check: "M4 10.500l4 4 8-9",
  clock: "M10 2.500a7.500 7.500 0 1 0 0 15a7.500 7.500 0 1 0 0-15z M10 5.500v5l3 2",
  fork: "M6 3v14 M6 10c0-4 8-2 8-7 M6 17",
  trash: "M4 5.500h12 M8 5.500v-2h4v2 M5.500 5.500l.8 11.500h7.400l.8-11.500",
  pulse: "M2.500 10.500h3.500l2-6 4 11 2-5h3.500",
  device: "M3 4.500h14v9h-14z M7 16.500h6",
  more: "M5 10h.010 M10 10h.010 M15 10h.010",
  link: "M8.500 11.500l3-3 M7 9l-2 2a2.800 2.800 0 0 0 4 4l2-2 M13 11l2-2a2.800 2.800 0 0 0-4-4l-2 2",
  back: "M12 5l-5 5 5 5",
};

/** @param {{name: keyof typeof ICONS}} props */
export const Icon = ({ name }) => html`
  <svg class="icon icon-${name}" viewBox="0 0 20 20" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;

// ---- time ----

const minute = 60_000;
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dayAndYear = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

/** @param {number} ms */
export function ago(ms) {
  const past = Date.now() - ms;
  if (past < minute) return "just now";
  if (past < 60 * minute) return relative.format(-Math.round(past / minute), "minute");
  if (past < 24 * 60 * minute) return relative.format(-Math.round(past / (60 * minute)), "hour");
  if (past < 7 * 24 * 60 * minute) {
    return relative.format(-Math.round(past / (24 * 60 * minute)), "day");
  }
  const date = new Date(ms);
  return (date.getFullYear() === new Date().getFullYear() ? day : dayAndYear).format(date);
}

/** @param {{ms: number | null | undefined}} props */
export const Time = ({ ms }) => (ms
  ? html`<time datetime=${new Date(ms).toISOString()} title=${exact.format(ms)}>${ago(ms)}</time>`
  : html`<span>never</span>`);

/** @param {number} bytes */
export const size = (bytes) => (bytes < 1000 ? `${bytes} bytes`
  : bytes < 1e6 ? `${(bytes / 1000).toFixed(bytes < 1e4 ? 1 : 0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

// ---- what was done, and what went wrong ----

/**
 * @typedef {{text: string, action?: {label: string, run: () => unknown}, error?: boolean,
 *   id: number}} Toast
 */
/** @type {import("../vendor/preact.js").Signal<Toast | null>} */
const toast = signal(null);
let toasts = 0;

/** @param {string} text @param {{label: string, run: () => unknown}} [action] */
export function say(text, action) {
  toasts += 1;
  toast.value = { text, action, id: toasts };
}

/** @param {unknown} error */
export function sayError(error) {
  toasts += 1;
  const { message, hint } = /** @type {{message?: string, hint?: string}} */ (error ?? {});
  const text = [message ?? String(error), hint].filter(Boolean).join(" ");
  toast.value = { text, error: true, id: toasts };
}

export function Toasts() {
  const now = toast.value;
  useEffect(() => {
    if (!now) return undefined;
    const timer = setTimeout(() => { if (toast.value === now) toast.value = null; },
      now.action || now.error ? 10_000 : 4_000);
    return () => clearTimeout(timer);
  }, [now?.id]);
  const run = () => { toast.value = null; now?.action?.run(); };
  return html`<div class="toasts" role="status" aria-live="polite">
    ${now && html`<div class=${now.error ? "toast error" : "toast"} key=${now.id}>
      <span>${coded(now.text)}</span>
      ${now.action && html`<button class="plain" onClick=${run}>${now.action.label}</button>`}
      <button class="plain icon-only" aria-label="Dismiss"
        onClick=${() => { toast.value = null; }}><${Icon} name="close" /></button>
    </div>`}
  </div>`;
}

/** What stands between backticks is code. @param {string} text */
export const coded = (text) => text.split(/`([^`]+)`/).map((part, n) => (
  n % 2 === 1 ? html`<code>${part}</code>` : part));

/** @param {{error: any, again?: () => void}} props */
export const Problem = ({ error, again }) => html`
  <div class="problem" role="alert">
    <p><strong>${coded(error?.message ?? String(error))}</strong></p>
    ${error?.hint && html`<p>${coded(error.hint)}</p>`}
    ${again && html`<button onClick=${again}>Try again</button>`}
  </div>`;

/** Nothing is drawn at once: most answers come sooner than an eye. */
export function Waiting() {
  const [slow, setSlow] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setSlow(true), 250);
    return () => clearTimeout(timer);
  }, []);
  return html`<div class="waiting" role="status">${slow ? "Loading…" : ""}</div>`;
}

// ---- keys for a text that is being opened ----

/** @type {HTMLTextAreaElement | null} */
let desk = null;

/** Keys typed from here on are kept for the editor, and do nothing else. */
export function catchKeys() {
  if (desk) return;
  const made = document.createElement("textarea");
  desk = made;
  made.className = "desk";
  made.setAttribute("aria-label", "The note is being opened");
  made.addEventListener("blur", () => setTimeout(() => {
    const now = document.activeElement;
    if (document.hasFocus() && now !== made && now !== document.body && desk === made) letGo();
  }));
  document.body.append(made);
  made.focus({ preventScroll: true });
}

/** What was typed meanwhile; null when nobody waits for it any more. */
export function caughtKeys() {
  const text = desk?.value ?? null;
  letGo();
  return text;
}

export function letGo() {
  desk?.remove();
  desk = null;
}

/** Whether keys are letters for somebody. @param {EventTarget | null} target */
export const types = (target) => target instanceof HTMLElement
  && (target.isContentEditable || target.matches("input:not([type=checkbox]), textarea, select"));

// ---- dialogs ----

/**
 * @param {{label: string, onClose: () => void, children?: Children, kind?: string}} props
 */
export function Dialog({ label, onClose, children, kind = "" }) {
  const ref = useRef(/** @type {HTMLDialogElement | null} */ (null));
  // Before the next key: it is for what is in here.
  useLayoutEffect(() => {
    const before = document.activeElement;
    ref.current?.showModal();
    return () => {
      const next = desk ?? before;
      if (next instanceof HTMLElement && next.isConnected) next.focus({ preventScroll: next === desk });
    };
  }, []);
  const outside = (/** @type {MouseEvent} */ event) => {
    if (event.target === ref.current) onClose();
  };
  const cancel = (/** @type {Event} */ event) => { event.preventDefault(); onClose(); };
  return html`<dialog ref=${ref} class="dialog ${kind}" aria-label=${label} onCancel=${cancel}
    onMouseDown=${outside}><div class="dialog-inside">${children}</div></dialog>`;
}

/**
 * @typedef {{title: string, text?: string, label?: string, value?: string, ok: string,
 *   danger?: boolean, check?: (value: string) => string | null}} Question
 */
/** @type {import("../vendor/preact.js").Signal<(Question & {done: (value: string | null) => void}) | null>} */
const question = signal(null);

/** Asks for a word, or only for a yes. @param {Question} what @returns {Promise<string | null>} */
export const ask = (what) => new Promise((done) => { question.value = { ...what, done }; });

/** No answer: whoever was asked is somewhere else now. */
export function dismiss() {
  const now = question.value;
  question.value = null;
  now?.done(null);
}

export function Questions() {
  const now = question.value;
  return now && html`<${Ask} key=${now.title} now=${now} />`;
}

/** @param {{now: NonNullable<typeof question.value>}} props */
function Ask({ now }) {
  const [value, setValue] = useState(now.value ?? "");
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  useLayoutEffect(() => {
    const at = input.current;
    if (!at) return;
    at.focus();
    const dot = at.value.endsWith(".md") ? at.value.length - 3 : at.value.length;
    at.setSelectionRange(at.value.lastIndexOf("/") + 1, dot);
  }, []);
  const end = (/** @type {string | null} */ answer) => {
    question.value = null;
    now.done(answer);
  };
  const wrong = now.label && now.check ? now.check(value.trim()) : null;
  // What stood there at the beginning is nobody's mistake.
  const told = wrong && value.trim() && value !== now.value ? wrong : "";
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!now.label) end("yes");
    else if (!wrong && value.trim()) end(value.trim());
  };
  return html`<${Dialog} label=${now.title} onClose=${() => end(null)}>
    <form onSubmit=${submit}>
      <h2>${now.title}</h2>
      ${now.text && html`<p>${now.text}</p>`}
      ${now.label && html`<label class="field"><span>${now.label}</span>
        <input ref=${input} value=${value} spellcheck=${false} autocomplete="off"
          onInput=${(/** @type {any} */ event) => setValue(event.target.value)} /></label>
        <p class="wrong" role="alert">${told}</p>`}
      <div class="buttons">
        <button type="button" onClick=${() => end(null)}>Cancel</button>
        <button class=${now.danger ? "main danger" : "main"}
          disabled=${Boolean(now.label) && (!value.trim() || Boolean(wrong))}>${now.ok}</button>
      </div>
    </form>
  <//>`;
}

/** A button with a list of things to do. @param {{label: string, children?: Children}} props */
export function Menu({ label, children }) {
  const [open, setOpen] = useState(false);
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  useLayoutEffect(() => {
    if (!open) return undefined;
    const items = () => /** @type {HTMLElement[]} */ (
      [...ref.current?.querySelectorAll("[role=menuitem]") ?? []]);
    items()[0]?.focus();
    const outside = (/** @type {Event} */ event) => {
      if (!ref.current?.contains(/** @type {Node} */ (event.target))) setOpen(false);
    };
    const keys = (/** @type {KeyboardEvent} */ event) => {
      const all = items();
      const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
      if (event.key === "Escape") {
        setOpen(false);
        /** @type {HTMLElement | null | undefined} */ (ref.current?.querySelector("button"))?.focus();
      } else if (event.key === "ArrowDown") all[(at + 1) % all.length]?.focus();
      else if (event.key === "ArrowUp") all[(at + all.length - 1) % all.length]?.focus();
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    document.addEventListener("pointerdown", outside);
    const at = ref.current;
    at?.addEventListener("keydown", keys);
    return () => {
      document.removeEventListener("pointerdown", outside);
      at?.removeEventListener("keydown", keys);
    };
  }, [open]);
  return html`<div class="menu" ref=${ref}>
    <button class="plain icon-only" aria-label=${label} title=${label} aria-haspopup="menu"
      aria-expanded=${open} onClick=${() => setOpen(!open)}><${Icon} name="more" /></button>
    ${open && html`<div class="menu-items" role="menu" onClick=${() => setOpen(false)}>${children}</div>`}
  </div>`;
}

/** Puts a text on the clipboard, over plain HTTP as well. @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return;
  } catch { /* only on secure origins */ }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "away";
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** How long after no answer it is asked again. */
const AGAIN_MS = 3_000;

/**
 * Asks again by itself when there was no answer: soon, and once the server is heard.
 * @param {any} error @param {() => void} again
 */
export function useAgain(error, again) {
  const away = error?.status === 0 || error?.status >= 500;
  useEffect(() => {
    if (!away) return undefined;
    if (heard.value && error.status !== 0) return undefined;
    const timer = setTimeout(again, AGAIN_MS);
    addEventListener("online", again);
    return () => {
      clearTimeout(timer);
      removeEventListener("online", again);
    };
  }, [error, heard.value]);
  // The line is back: at once.
  const was = useRef(heard.value);
  useEffect(() => {
    if (away && heard.value && !was.current) again();
    was.current = heard.value;
  }, [heard.value]);
}

/** Loads something for as long as a view is shown. Gives `[value, error, again]`.
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} load
 * @param {unknown[]} on
 * @returns {[T | null, any, () => void]}
 */
export function useLoaded(load, on) {
  const [now, setNow] = useState(/** @type {{value: T | null, error: any}} */ (
    { value: null, error: null }));
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    load(abort.signal).then((value) => {
      if (!abort.signal.aborted) setNow({ value, error: null });
    }, (error) => {
      if (!abort.signal.aborted) setNow((was) => ({ value: was.value, error }));
    });
    return () => abort.abort();
  }, [...on, turn]);
  const again = () => setTurn((was) => was + 1);
  useAgain(now.error, again);
  return [now.value, now.error, again];
}

/** Runs it with each event of this name on the window. @param {string} name @param {() => void} run */
export function useEvent(name, run) {
  useEffect(() => {
    addEventListener(name, run);
    return () => removeEventListener(name, run);
  });
}

/** The tab's name. @param {string} text */
export function useTitle(text) {
  useEffect(() => { document.title = text ? `${text} · Crucible` : "Crucible"; }, [text]);
}
