// Footnotes, `[^1]` and `^[at once]`: markdown-it-footnote, with links of this page.
//
// Invariant: the ids of a note's footnotes have its path in them, and its links lead to no other's.

import { footnotes as parsed } from "../vendor/markdown-it.js";
import { to } from "./route.js";

/** @typedef {any} Any markdown-it's own types differ from its newest release */

/** Gluing them to the end takes the square of their number: of more, a note has none. */
const COUNT_MAX = 2_000;

const RULES = ["footnote_def", "footnote_inline", "footnote_ref", "footnote_tail"];

/** @param {Any} md @param {(text: string) => string} slug */
export function footnotes(md, slug) {
  md.use(parsed);
  const escape = md.utils.escapeHtml;
  /** @param {"fn" | "ref"} kind @param {{id: number, subId?: number}} of @param {Any} env */
  const idOf = (kind, { id, subId }, env) => (
    `${kind}-${slug(env.place.path)}-${id + 1}${kind === "ref" && subId ? `-${subId + 1}` : ""}`);
  /** @param {string} target @param {string} words @param {Any} env */
  const link = (target, words, env) => {
    const { vault, path } = env.place;
    return `href="${escape(to.place(vault, path, target))}" data-to="${escape(target)}" aria-label="${words}"`;
  };
  const { rules } = md.renderer;
  rules.footnote_ref = (/** @type {Any} */ tokens, /** @type {number} */ n, /** @type {Any} */ _options,
    /** @type {Any} */ env) => {
    const { meta } = tokens[n];
    return `<sup class="footnote"><a id="${escape(idOf("ref", meta, env))}" ${
      link(idOf("fn", meta, env), `Footnote ${meta.id + 1}`, env)}>${meta.id + 1}</a></sup>`;
  };
  rules.footnote_anchor = (/** @type {Any} */ tokens, /** @type {number} */ n,
    /** @type {Any} */ _options, /** @type {Any} */ env) => {
    const { meta } = tokens[n];
    const which = meta.subId ? `, place ${meta.subId + 1}` : "";
    return ` <a class="back-up" ${link(idOf("ref", meta, env),
      `Back to the text of footnote ${meta.id + 1}${which}`, env)}>\u21a9\uFE0E</a>`;
  };
  rules.footnote_block_open = () => '<section class="footnotes" aria-label="Footnotes"><ol>';
  rules.footnote_block_close = () => "</ol></section>";
  rules.footnote_open = (/** @type {Any} */ tokens, /** @type {number} */ n,
    /** @type {Any} */ _options, /** @type {Any} */ env) => (
    `<li id="${escape(idOf("fn", tokens[n].meta, env))}" tabindex="-1">`);
}

/** To be asked before each text: whether it has few enough. @param {Any} md @param {string} text */
export function allowFootnotes(md, text) {
  const count = text.match(/\[\^[^\]\s]+\]:|\^\[/g)?.length ?? 0;
  if (count > COUNT_MAX) md.disable(RULES);
  else md.enable(RULES);
}
