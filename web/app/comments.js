// `<!-- comments -->` of a note: for who writes it, not drawn for who reads it.
//
// Invariant: nothing but a whole comment is left out; one that never ends is text like any other.

/** @typedef {any} Any markdown-it's own types differ from its newest release */

const OPENS = "<!--";
const ENDS = "-->";
/** Comments in which one dash or two are of both ends (CommonMark 0.31.2, HTML5). */
const SHORT = ["<!-->", "<!--->"];

/** More blanks than this at the end of a line nobody means. */
const BLANK_MAX = 1_000;

/** Where the next end of a comment begins; -1 for none. Each stretch of a text is read once. */
class Ends {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
    this.from = -1;
    this.next = -1;
  }

  /** @param {number} at */
  after(at) {
    if (this.from < 0 || at < this.from || (this.next >= 0 && at > this.next)) {
      this.from = at;
      this.next = this.text.indexOf(ENDS, at);
    }
    return this.next;
  }
}

/**
 * Behind the comment that begins here; -1 where none does.
 * @param {Any} state @param {number} start
 */
function behind(state, start) {
  const { src } = state;
  if (!src.startsWith(OPENS, start)) return -1;
  const short = SHORT.find((one) => src.startsWith(one, start));
  if (short) return start + short.length;
  state.commentEnds ??= new Ends(src);
  const end = state.commentEnds.after(start + OPENS.length);
  return end < 0 ? -1 : end + ENDS.length;
}

/** @param {Any} md */
export function comments(md) {
  md.block.ruler.before("table", "comment", (/** @type {Any} */ state, /** @type {number} */ line,
    /** @type {number} */ last, /** @type {boolean} */ silent) => {
    // What is indented as code is code.
    if (state.sCount[line] - state.blkIndent >= 4) return false;
    const end = behind(state, state.bMarks[line] + state.tShift[line]);
    if (end < 0 || !/^[ \t]*(\n|$)/.test(state.src.slice(end, end + BLANK_MAX))) return false;
    // To the left of a list item it is none of the item's, and ends it.
    if (silent && state.sCount[line] < state.blkIndent) return true;
    let at = line;
    while (state.eMarks[at] < end) {
      at += 1;
      // The end of a list item or quotation is the end of what can be in it.
      if (at >= last || (!state.isEmpty(at) && state.sCount[at] < state.blkIndent)) return false;
    }
    if (!silent) state.line = at + 1;
    return true;
  }, { alt: ["paragraph", "reference", "blockquote"] });

  md.inline.ruler.before("autolink", "comment", (/** @type {Any} */ state, /** @type {boolean} */ silent) => {
    const end = behind(state, state.pos);
    if (end < 0) return false;
    // It keeps its place: what stands after it does not begin the line.
    if (!silent) state.push("comment", "", 0);
    state.pos = end;
    return true;
  });
  md.renderer.rules.comment = () => "";
}
