// Carries edits over to a text that came from elsewhere: three-way, by words.
//
// Used when a session's document was made anew (another epoch) while somebody had edits that the
// server never took. Old documents are never imported into new ones: that doubles the note.
// Invariants: what only one side changed is as that side has it; what both changed alike is there
// once; where both changed the same words, no word that somebody wrote is lost.

import { diff, words } from "../diff.js";

/** @typedef {{from: number, to: number, insert: string}} Change */

/**
 * What to do to `theirs` so that my edits (`base` → `mine`) are in it.
 * @param {string} base what both started from
 * @param {string} mine
 * @param {string} theirs
 * @returns {Change[]} in order, offsets of `theirs`
 */
export function rebase(base, mine, theirs) {
  const ours = diff(base, mine);
  const other = diff(base, theirs);
  /** @type {Change[]} */
  const out = [];
  let i = 0;
  let j = 0;
  // How far a position of `base` has moved in either text, behind the hunks seen so far.
  let shiftMine = 0;
  let shiftTheirs = 0;
  while (i < ours.length) {
    let from = ours[i].fromA;
    let to = ours[i].toA;
    while (j < other.length && other[j].toA < from) {
      shiftTheirs = other[j].toB - other[j].toA;
      j += 1;
    }
    // A cluster: hunks of both sides that touch each other, in one range of the base.
    let [endI, endJ] = [i, j];
    let [nextMine, nextTheirs] = [shiftMine, shiftTheirs];
    for (let grew = true; grew; ) {
      grew = false;
      if (endI < ours.length && ours[endI].fromA <= to) {
        to = Math.max(to, ours[endI].toA);
        nextMine = ours[endI].toB - ours[endI].toA;
        endI += 1;
        grew = true;
      }
      if (endJ < other.length && other[endJ].fromA <= to) {
        from = Math.min(from, other[endJ].fromA);
        to = Math.max(to, other[endJ].toA);
        nextTheirs = other[endJ].toB - other[endJ].toA;
        endJ += 1;
        grew = true;
      }
    }
    const at = from + shiftTheirs;
    const there = theirs.slice(at, to + nextTheirs);
    const here = mine.slice(from + shiftMine, to + nextMine);
    const change = endJ === j
      ? { from: 0, to: there.length, insert: here }
      : both(here, there);
    if (change) out.push({ ...change, from: change.from + at, to: change.to + at });
    [i, j] = [endI, endJ];
    [shiftMine, shiftTheirs] = [nextMine, nextTheirs];
  }
  return out;
}

/**
 * Both sides changed the same words: what to do to `there`. By whole words, or half of one would
 * be taken for what both wrote.
 * @param {string} here
 * @param {string} there
 * @returns {Change | null}
 */
function both(here, there) {
  if (here === there) return null;
  const [a, b] = [words(here), words(there)];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let [endA, endB] = [a.length, b.length];
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
    endA -= 1;
    endB -= 1;
  }
  const mine = a.slice(start, endA).join("");
  const theirs = b.slice(start, endB).join("");
  const from = b.slice(0, start).join("").length;
  const to = from + theirs.length;
  if (holds(theirs, mine)) return null;
  if (holds(mine, theirs)) return { from, to, insert: mine };
  const joint = WORD_END.test(theirs) && WORD_START.test(mine) ? " " : "";
  return { from: to, to, insert: joint + mine };
}

const WORD_START = /^[\p{L}\p{N}_]/u;
const WORD_END = /[\p{L}\p{N}_]$/u;

/**
 * Whether `whole` has `part` in it: as its beginning (somebody typed on), or as words of its own.
 * @param {string} whole
 * @param {string} part
 */
function holds(whole, part) {
  if (whole.startsWith(part)) return true;
  const at = whole.indexOf(part);
  if (at < 0) return false;
  const startsWord = !WORD_END.test(whole.slice(0, at)) || !WORD_START.test(part);
  const endsWord = !WORD_START.test(whole.slice(at + part.length)) || !WORD_END.test(part);
  return startsWord && endsWord;
}

/**
 * @param {string} text
 * @param {Change[]} changes
 */
export function applied(text, changes) {
  let out = "";
  let at = 0;
  for (const { from, to, insert } of changes) {
    out += text.slice(at, from) + insert;
    at = to;
  }
  return out + text.slice(at);
}
