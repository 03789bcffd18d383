// Tasks of a note, `- [ ]` and `- [x]`: where they stand in its text, and ticking them.
//
// Invariant: a tick changes the one letter between the brackets and no other byte of the text.

import { diff } from "./diff.js";

/** @typedef {any} Any markdown-it's own types differ from its newest release */

/** How long `[ ]` is. */
const BOX = 3;

/**
 * Makes marks of the boxes at the beginning of list items. The env's `text` is the whole note, of
 * which what is rendered is the end: each mark knows its place in it.
 * @param {Any} md
 */
export function tasks(md) {
  md.core.ruler.after("inline", "tasks", (/** @type {Any} */ state) => {
    const { tokens, env } = state;
    /** @type {number[] | undefined} */
    let starts;
    for (let n = 2; n < tokens.length; n += 1) {
      if (tokens[n].type !== "inline" || tokens[n - 1].type !== "paragraph_open"
        || tokens[n - 2].type !== "list_item_open") continue;
      const first = tokens[n].children?.[0];
      const match = first?.type === "text" && /^\[([ xX])\]\s/.exec(first.content);
      if (!match) continue;
      starts ??= lineStarts(env.text, env.from);
      // What may stand before it in its line, of quotes and lists, has no bracket in it.
      const at = env.text.indexOf("[", starts[tokens[n].map[0]]);
      first.content = first.content.slice(match[0].length);
      const mark = new state.Token("task", "", 0);
      mark.meta = { done: match[1] !== " ", at };
      tokens[n].children.unshift(mark);
      tokens[n - 2].attrJoin("class", "task");
    }
  });
  md.renderer.rules.task = (/** @type {Any} */ all, /** @type {number} */ n) => {
    const { done, at } = all[n].meta;
    return `<input type="checkbox" class="box" data-at="${at}"${done ? " checked" : ""}>`;
  };
}

/** Where the lines begin, as markdown-it counts them. @param {string} text @param {number} from */
function lineStarts(text, from) {
  const ends = [...text.slice(from).matchAll(/\r\n?|\n/g)];
  return [from, ...ends.map(({ index, 0: end }) => from + index + end.length)];
}

/** Whether the box there is ticked; null when there is none. @param {string} text @param {number} at */
export function isDone(text, at) {
  const box = /^\[([ xX])\]$/.exec(text.slice(at, at + BOX));
  return box && box[1] !== " ";
}

/**
 * The text with the box there ticked or not; the same text when it is so, or is no box.
 * @param {string} text @param {number} at @param {boolean} done
 */
export function withTask(text, at, done) {
  const now = isDone(text, at);
  return now === null || now === done ? text
    : `${text.slice(0, at + 1)}${done ? "x" : " "}${text.slice(at + 2)}`;
}

/**
 * Where in `to` a box of `from` stands; null when its line says something else there, or is not
 * there any more, or not yet.
 * @param {string} from @param {string} to @param {number} at
 */
export function placeIn(from, to, at) {
  const start = from.lastIndexOf("\n", at) + 1;
  const end = `${from}\n`.indexOf("\n", at);
  let moved = 0;
  for (const { fromA, toA, toB } of diff(unticked(from), unticked(to))) {
    if (fromA > end) break;
    if (toA > start) return null;
    moved = toB - toA;
  }
  return isDone(to, at + moved) === null ? null : at + moved;
}

/** A text in which whatever looks like a box is an empty one. @param {string} text */
const unticked = (text) => text.replace(/\[[xX]\]/g, "[ ]");

/**
 * Whether texts differ in nothing but the letters in these boxes of the first.
 * @param {string} a @param {string} b @param {number[]} boxes in order
 */
export function differInBoxes(a, b, boxes) {
  if (a.length !== b.length) return false;
  let from = 0;
  for (const at of boxes) {
    if (isDone(b, at) === null || a.slice(from, at) !== b.slice(from, at)) return false;
    from = at + BOX;
  }
  return a.slice(from) === b.slice(from);
}

/**
 * Ticks on their way to the server: shown at once, sent one after the other.
 *
 * Invariant: each is a change to a version that the reader had before their eyes, the one that was
 * loaded or the one that their last tick made; merging it with what others wrote is the server's.
 */
export class Ticks {
  /**
   * @param {(base: string, text: string) => Promise<string>} send gives the version it made
   */
  constructor(send) {
    this.send = send;
    /** How many were made, and how many of them the server has. */
    this.made = 0;
    this.stored = 0;
    this.shown = "";
    /** @type {{version: string, text: string} | null} */
    this.ground = null;
    /** @type {Promise<void>} */
    this.last = Promise.resolve();
  }

  /**
   * The text as it is ticked here, while one that was loaded when `stored` of them were with the
   * server lacks some; else null.
   * @param {number} stored
   */
  over(stored) {
    return stored < this.made ? this.shown : null;
  }

  /**
   * @param {{version: string, text: string, stored: number}} loaded
   * @param {string} shown what the reader sees, which may be ahead of what was loaded
   * @param {number} at where in it
   * @param {boolean} done
   * @returns {Promise<void>} until it is with the server; throws when it is not
   */
  tick(loaded, shown, at, done) {
    if (this.over(loaded.stored) === null) this.ground = null;
    this.made += 1;
    this.shown = withTask(shown, at, done);
    const mine = this.last.then(async () => {
      const { version, text } = this.ground ?? loaded;
      const there = placeIn(shown, text, at);
      if (there === null) throw new Error("This line is not saved yet. Try again in a moment.");
      const next = withTask(text, there, done);
      this.ground = { version: next === text ? version : await this.send(version, next), text: next };
      this.stored += 1;
    });
    // Those behind one that failed stand on a text that never came to be.
    this.last = mine;
    return mine;
  }

  /** After a failure: those that the server has stay, and no others. */
  drop() {
    this.made = this.stored;
    this.shown = this.ground?.text ?? this.shown;
    this.last = Promise.resolve();
  }
}
