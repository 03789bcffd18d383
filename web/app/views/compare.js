// How one text became another, word by word, with what did not change folded away.

import { html, useMemo } from "../../vendor/preact.js";
import { diff } from "../diff.js";

/** Lines that are kept in sight around a change. */
const AROUND = 2;

/** @typedef {{kind: "same" | "new" | "gone", text: string}} Piece */

/** @param {string} a @param {string} b @returns {Piece[]} */
export function pieces(a, b) {
  /** @type {Piece[]} */
  const out = [];
  let at = 0;
  for (const { fromA, toA, fromB, toB } of diff(a, b)) {
    if (fromA > at) out.push({ kind: "same", text: a.slice(at, fromA) });
    if (toA > fromA) out.push({ kind: "gone", text: a.slice(fromA, toA) });
    if (toB > fromB) out.push({ kind: "new", text: b.slice(fromB, toB) });
    at = toA;
  }
  if (at < a.length) out.push({ kind: "same", text: a.slice(at) });
  return out;
}

/** @param {{before: string, after: string, whole?: boolean}} props */
export function Compare({ before, after, whole }) {
  const all = useMemo(() => pieces(before, after), [before, after]);
  if (all.every(({ kind }) => kind === "same")) {
    return html`<p class="empty">The text did not change.</p>
      ${whole && html`<pre class="compare">${after}</pre>`}`;
  }
  return html`<pre class="compare">${all.map(({ kind, text }, n) => {
    if (kind === "gone") return html`<del>${visible(text)}</del>`;
    if (kind === "new") return html`<ins>${visible(text)}</ins>`;
    if (whole) return text;
    return folded(text, n === 0, n === all.length - 1);
  })}</pre>`;
}

/** An added or removed line break is to be seen. @param {string} text */
const visible = (text) => (/^\n+$/.test(text) ? `¶${text}` : text);

/** @param {string} text @param {boolean} first @param {boolean} last */
function folded(text, first, last) {
  const lines = text.split("\n");
  const head = first ? 0 : AROUND + 1;
  const tail = last ? 0 : AROUND + 1;
  const hidden = lines.length - head - tail;
  if (hidden < 3) return text;
  const words = html`<span class="fold">${hidden} unchanged lines</span>`;
  return html`${lines.slice(0, head).join("\n")}${head ? "\n" : ""}${words}${tail ? "\n" : ""}${
    tail ? lines.slice(-tail).join("\n") : ""}`;
}
