// How lines of the editor look: each with the direction of its own words, and those of the
// frontmatter as what they are. (Markdown takes `key: value` above `---` for a heading.)

import { Decoration, ViewPlugin } from "../../vendor/codemirror.js";

/** @typedef {import("../../vendor/codemirror.js").Text} Text */

/** A frontmatter of more lines is none that a person wrote. */
const LINES_MAX = 500;

/** The last line of the frontmatter; 0 when there is none. @param {Text} doc */
export function headLines(doc) {
  if (!/^\uFEFF?---[ \t]*$/.test(doc.line(1).text)) return 0;
  for (let n = 2; n <= Math.min(doc.lines, LINES_MAX); n += 1) {
    if (/^(---|\.\.\.)[ \t]*$/.test(doc.line(n).text)) return n;
  }
  return 0;
}

/** Where one begins to write: behind the frontmatter. @param {Text} doc */
export function beginning(doc) {
  const head = headLines(doc);
  if (head === 0) return 0;
  return head < doc.lines ? doc.line(head + 1).from : doc.length;
}

const plain = Decoration.line({ attributes: { dir: "auto" } });
const head = Decoration.line({ attributes: { dir: "auto" }, class: "head-line" });

/** @param {import("../../vendor/codemirror.js").EditorView} view */
function drawn(view) {
  const { doc } = view.state;
  const until = headLines(doc);
  const ranges = [];
  for (const { from, to } of view.visibleRanges) {
    for (let at = from; at <= to; ) {
      const line = doc.lineAt(at);
      ranges.push((line.number <= until ? head : plain).range(line.from));
      at = line.to + 1;
    }
  }
  return Decoration.set(ranges, true);
}

export const lines = ViewPlugin.define((view) => ({
  decorations: drawn(view),
  update(update) {
    if (update.docChanged || update.viewportChanged) this.decorations = drawn(update.view);
  },
}), { decorations: (one) => one.decorations });
