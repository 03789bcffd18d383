// `<!-- comments -->` of a note: for who writes it, not drawn for who reads it.
//
// Invariant: nothing but a whole comment is left out; one that never ends is text like any other.

/** @typedef {any} Any markdown-it's own types differ from its newest release */

const OPENS = "<!--";
const ENDS = "-->";

/** @param {Any} md */
export function comments(md) {
  md.block.ruler.before("paragraph", "comment", (/** @type {Any} */ state, /** @type {number} */ line,
    /** @type {number} */ last, /** @type {boolean} */ silent) => {
    // What is indented as code is code.
    if (state.sCount[line] - state.blkIndent >= 4) return false;
    const start = state.bMarks[line] + state.tShift[line];
    if (!state.src.startsWith(OPENS, start)) return false;
    let end = line;
    let at = state.src.slice(start + OPENS.length, state.eMarks[line]).indexOf(ENDS);
    let from = start + OPENS.length;
    while (at < 0) {
      end += 1;
      // The end of a list item or quotation is the end of what can be in it.
      if (end >= last || (!state.isEmpty(end) && state.sCount[end] < state.blkIndent)) return false;
      from = state.bMarks[end];
      at = state.src.slice(from, state.eMarks[end]).indexOf(ENDS);
    }
    const behind = state.src.slice(from + at + ENDS.length, state.eMarks[end]);
    if (behind.trim() !== "") return false;
    if (!silent) state.line = end + 1;
    return true;
  }, { alt: ["paragraph", "reference", "blockquote"] });

  md.inline.ruler.before("autolink", "comment", (/** @type {Any} */ state) => {
    if (!state.src.startsWith(OPENS, state.pos)) return false;
    const end = state.src.indexOf(ENDS, state.pos + OPENS.length);
    if (end < 0) return false;
    state.pos = end + ENDS.length;
    return true;
  });
}
