// Bold and italic: marks put around a selection, taken away again, or stepped over.

/** @typedef {import("../../vendor/codemirror.js").EditorState} EditorState */
/** @typedef {import("../../vendor/codemirror.js").TransactionSpec} TransactionSpec */

/** Whether a run of so many stars is (also) this mark: `***` is both. @param {number} run @param {string} mark */
const isMark = (run, mark) => (mark.length === 1 ? run % 2 === 1 : run >= 2);

/**
 * What Ctrl+B (`**`) or Ctrl+I (`*`) does here.
 * @param {EditorState} state
 * @param {string} mark
 * @returns {TransactionSpec}
 */
export function toggled(state, mark) {
  const { from, to, empty } = state.selection.main;
  const text = state.sliceDoc(from, to);
  const line = state.doc.lineAt(from);
  const left = state.sliceDoc(line.from, from);
  const right = state.sliceDoc(to, state.doc.lineAt(to).to);
  const before = /\**$/.exec(left)?.[0].length ?? 0;
  const after = /^\**/.exec(right)?.[0].length ?? 0;
  const size = mark.length;
  if (isMark(before, mark) && isMark(after, mark)) {
    return {
      changes: [{ from: from - size, to: from }, { from: to, to: to + size }], userEvent: "input",
    };
  }
  const open = left.slice(0, left.length - before);
  if (empty && before === 0 && isMark(after, mark) && open.includes(mark) && /\S$/.test(open)) {
    return { selection: { anchor: to + size }, userEvent: "select" };
  }
  const first = /^\**/.exec(text)?.[0].length ?? 0;
  const last = /\**$/.exec(text)?.[0].length ?? 0;
  if (text.length > 2 * size && isMark(first, mark) && isMark(last, mark)) {
    return {
      changes: [{ from, to: from + size }, { from: to - size, to }], userEvent: "input",
    };
  }
  return {
    changes: { from, to, insert: mark + text + mark },
    selection: { anchor: from + size, head: to + size },
    userEvent: "input",
  };
}
