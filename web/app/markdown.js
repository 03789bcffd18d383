// Notes as HTML: markdown-it, wiki links, tasks, frontmatter; and DOMPurify over all of it.
//
// Invariants: HTML in a note is shown as text (comments are left out), never taken as HTML; what is
// inserted in the page came out of DOMPurify; nothing in a note makes the browser ask another
// server for anything.

import DOMPurify from "../vendor/dompurify.js";
import MarkdownIt from "../vendor/markdown-it.js";
import { comments } from "./comments.js";
import { allowFootnotes, footnotes } from "./footnotes.js";
import { folderOf, isNote, isPicture, resolved } from "./paths.js";
import { to } from "./route.js";
import { tasks } from "./tasks.js";

/**
 * What rendering needs to know of the vault.
 * @typedef {{vault: string, path: string, find: (target: string) => string | null}} Place
 */

const md = new MarkdownIt({ html: false, linkify: true, breaks: false, typographer: false });

// Dangerous schemes are gone before DOMPurify sees them; images may be any relative path.
md.validateLink = (/** @type {string} */ url) => (
  !/^\s*[a-z][a-z0-9+.-]*:/i.test(url) || /^\s*(https?|mailto|tel):/i.test(url));

/** @typedef {any} Any markdown-it's own types differ from its newest release */

md.inline.ruler.before("link", "wiki", (/** @type {Any} */ state, /** @type {boolean} */ silent) => {
  const embeds = state.src.charCodeAt(state.pos) === 0x21;
  const start = state.pos + (embeds ? 1 : 0);
  if (!state.src.startsWith("[[", start)) return false;
  const end = state.src.indexOf("]]", start + 2);
  if (end < 0) return false;
  const inside = state.src.slice(start + 2, end);
  if (inside === "" || /[\n[\]]/.test(inside)) return false;
  if (!silent) {
    const bar = inside.search(/\\?\|/);
    const target = (bar < 0 ? inside : inside.slice(0, bar)).trim();
    const shown = bar < 0 ? "" : inside.slice(bar).replace(/^\\?\|/, "").trim();
    const token = state.push("wiki", "", 0);
    token.meta = { target, shown, embeds };
  }
  state.pos = end + 2;
  return true;
});

md.renderer.rules.wiki = (/** @type {Any} */ tokens, /** @type {number} */ at,
  /** @type {Any} */ _options, /** @type {Any} */ env) => {
  /** @type {{place: Place}} */
  const { place } = env;
  const { target, shown, embeds } = tokens[at].meta;
  const [name, ...headings] = target.split("#");
  const heading = headings.at(-1) ?? "";
  const escape = md.utils.escapeHtml;
  const found = name ? place.find(name) : place.path;
  if (embeds && isPicture(name)) {
    return image(found ?? resolved(name, folderOf(place.path)), shown || name);
  }
  const label = shown || (name ? target.replace(/#/g, " › ") : heading);
  if (found && !isNote(found)) return fileLink(found, label);
  const href = to.note(place.vault, found ?? `${name.replace(/\.md$/i, "")}.md`, heading);
  const kind = found ? "wiki" : "wiki missing";
  const hint = found ? "" : ' title="There is no note of this name yet"';
  return `<a class="${kind}" href="${escape(href)}"${hint}>${escape(label)}</a>`;
};

/** @param {string} path @param {string} alt */
const image = (path, alt) => `<img class="asset" data-path="${md.utils.escapeHtml(path)}" `
  + `alt="${md.utils.escapeHtml(alt)}">`;

/** @param {string} path @param {string} label */
const fileLink = (path, label) => `<a class="file" href="#" data-path="${
  md.utils.escapeHtml(path)}">${md.utils.escapeHtml(label)}</a>`;

md.renderer.rules.image = (/** @type {Any} */ tokens, /** @type {number} */ at,
  /** @type {Any} */ options, /** @type {Any} */ env, /** @type {Any} */ self) => {
  const token = tokens[at];
  const alt = self.renderInlineAsText(token.children ?? [], options, env);
  const source = token.attrGet("src") ?? "";
  const escape = md.utils.escapeHtml;
  // Elsewhere: its server would learn who reads this note, and the page's policy forbids it.
  if (/^[a-z][a-z0-9+.-]*:|^\/\//i.test(source)) {
    const way = source.replace(/^\/\//, "https://");
    return `<a class="outside" href="${escape(way)}" target="_blank" rel="noopener noreferrer">${
      escape(alt || source)}</a>`;
  }
  return image(resolved(plain(source), folderOf(env.place.path)), alt);
};

/** @param {string} url */
function plain(url) {
  try {
    return decodeURIComponent(url);
  } catch {
    return url;
  }
}

const linkOpen = md.renderer.rules.link_open
  ?? ((/** @type {Any} */ tokens, /** @type {number} */ at, /** @type {Any} */ options,
    /** @type {Any} */ _env, /** @type {Any} */ self) => self.renderToken(tokens, at, options));

md.renderer.rules.link_open = (/** @type {Any} */ tokens, /** @type {number} */ at,
  /** @type {Any} */ options, /** @type {Any} */ env, /** @type {Any} */ self) => {
  const token = tokens[at];
  const href = token.attrGet("href") ?? "";
  if (/^[a-z][a-z0-9+.-]*:|^\/\//i.test(href)) {
    token.attrSet("target", "_blank");
    token.attrSet("rel", "noopener noreferrer");
    token.attrJoin("class", "outside");
  } else {
    const [way, heading = ""] = href.split("#", 2);
    const target = way ? resolved(plain(way), folderOf(env.place.path)) : env.place.path;
    if (isNote(target)) {
      token.attrSet("href", to.note(env.place.vault, target, plain(heading)));
      token.attrJoin("class", env.place.find(target) ? "wiki" : "wiki missing");
    } else {
      token.attrSet("data-path", target);
      token.attrSet("href", "#");
      token.attrJoin("class", "file");
    }
  }
  return linkOpen(tokens, at, options, env, self);
};

md.use(comments);
md.use(tasks);

// Each block knows its line in the note: who begins to write goes on where they read.
md.core.ruler.push("lines", (/** @type {Any} */ state) => {
  const { text, from } = state.env;
  const before = text.slice(0, from).split(/\r\n?|\n/).length - 1;
  for (const token of state.tokens) {
    if (token.map && token.nesting >= 0 && token.type !== "inline") {
      token.attrSet("data-line", String(token.map[0] + before));
    }
  }
});
md.use(footnotes, (/** @type {string} */ text) => slug(text));

/** The direction of the first letter. @param {string} text */
export const direction = (text) => (/^\P{L}*[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/u.test(text)
  ? "rtl" : "ltr");

/** The anchor of a heading. @param {string} text */
export const slug = (text) => text.trim().toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-")
  .replace(/^-|-$/g, "");

const CLEAN = {
  ALLOWED_TAGS: ["a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5",
    "h6", "hr", "i", "img", "input", "li", "ol", "p", "pre", "s", "section", "span", "strong", "sup", "table", "tbody", "td",
    "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["href", "id", "class", "title", "alt", "data-path", "data-at", "data-line", "data-to", "target",
    "rel", "aria-label", "tabindex", "start", "align", "dir", "type", "checked"],
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: /** @type {const} */ (true),
};

/**
 * @param {string} source
 * @param {Place} place
 * @returns {DocumentFragment} ready to be inserted
 */
export function render(source, place) {
  const { body } = frontmatter(source);
  allowFootnotes(md, body);
  const rendered = md.render(body, { place, text: source, from: source.length - body.length });
  const fragment = /** @type {DocumentFragment} */ (
    /** @type {unknown} */ (DOMPurify.sanitize(rendered, CLEAN)));
  /** @type {Map<string, number>} */
  const seen = new Map();
  for (const heading of fragment.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    const base = slug(wordsFrom(heading.firstChild)) || "heading";
    const count = seen.get(base) ?? 0;
    seen.set(base, count + 1);
    heading.id = `h-${base}${count ? `-${count}` : ""}`;
  }
  // Each block has the direction of its own words.
  for (const block of fragment.querySelectorAll("p, h1, h2, h3, h4, h5, h6, td, th")) {
    block.setAttribute("dir", "auto");
  }
  // `auto` does not look into blocks that have a direction of their own.
  for (const frame of fragment.querySelectorAll("ul, ol, li, blockquote")) {
    frame.setAttribute("dir", direction(frame.textContent ?? ""));
  }
  for (const box of fragment.querySelectorAll("input.box")) {
    box.setAttribute("aria-label", wordsFrom(box.nextSibling).trim() || "Task");
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = document.createElement("div");
    frame.className = "table";
    frame.tabIndex = 0;
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment;
}

/** The words of a line, without its footnotes and what is listed below it. @param {ChildNode | null} first */
function wordsFrom(first) {
  let words = "";
  for (let node = first; node; node = node.nextSibling) {
    if (/^(UL|OL|P|PRE|BLOCKQUOTE|DIV|TABLE)$/.test(node.nodeName)) break;
    if (node.nodeName !== "SUP") words += node.textContent;
  }
  return words;
}

/**
 * The head of a note, for a table, and what follows it. Not a YAML reader: what is more than keys
 * with a value or a list is shown as it stands.
 * @param {string} source
 * @returns {{fields: {key: string, values: string[]}[], body: string}}
 */
export function frontmatter(source) {
  const match = /^\uFEFF?---[ \t]*\r?\n([\s\S]*?)(?<=\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|$)/.exec(source);
  if (!match) return { fields: [], body: source.replace(/^\uFEFF/, "") };
  /** @type {{key: string, values: string[]}[]} */
  const fields = [];
  for (const line of match[1].split(/\r?\n/)) {
    if (line.trim() === "" || /^\s*#/.test(line)) continue;
    const item = /^\s*-\s+(.*)$/.exec(line);
    const last = fields.at(-1);
    if (item && last) {
      last.values.push(unquoted(item[1]));
      continue;
    }
    const pair = /^([^\s:][^:]*):(?:\s+(.*))?$/.exec(line);
    if (pair) fields.push({ key: unquoted(pair[1]), values: valuesOf(pair[2] ?? "") });
    else if (last) last.values.push(line.trim());
    else return { fields: [], body: source };
  }
  return { fields, body: source.slice(match[0].length) };
}

/** @param {string} text */
function valuesOf(text) {
  const value = text.trim();
  if (value === "" || value === "|" || value === ">") return [];
  const list = /^\[(.*)\]$/.exec(value);
  if (list) return list[1].split(",").map(unquoted).filter(Boolean);
  return [unquoted(value)];
}

/** @param {string} text */
const unquoted = (text) => text.trim().replace(/^(["'])(.*)\1$/, "$2");
