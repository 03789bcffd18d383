import assert from "node:assert/strict";
import { test } from "node:test";

import { beginning, headLines } from "../app/live/lines.js";
import { toggled } from "../app/live/marks.js";
import { EditorState, Text } from "../vendor/codemirror.js";

/** A state from a text in which `|` is the cursor, or two of them a selection. */
function at(marked) {
  const [first, ...rest] = marked.split("|");
  const anchor = first.length;
  const head = rest.length > 1 ? anchor + rest[0].length : anchor;
  return EditorState.create({ doc: first + rest.join(""), selection: { anchor, head } });
}

function shown(state) {
  const { from, to, empty } = state.selection.main;
  const text = state.doc.toString();
  return empty ? `${text.slice(0, from)}|${text.slice(from)}`
    : `${text.slice(0, from)}|${text.slice(from, to)}|${text.slice(to)}`;
}

const press = (marked, mark) => { const s = at(marked); return shown(s.update(toggled(s, mark)).state); };

test("bold pressed again closes what it opened", () => {
  for (const [before, mark, after] of [
    ["a | b", "**", "a **|** b"],
    ["a **|** b", "**", "a | b"],
    ["a **bold|** b", "**", "a **bold**| b"],
    ["a |bold| b", "**", "a **|bold|** b"],
    ["a **|bold|** b", "**", "a |bold| b"],
    ["a |**bold**| b", "**", "a |bold| b"],
    ["**bold|**", "*", "**bold*|***"],
    ["**|bold|**", "*", "***|bold|***"],
    ["***|bold|***", "*", "**|bold|**"],
    ["*it|*", "*", "*it*|"],
    ["|**bold**", "**", "**|****bold**"],
  ]) assert.equal(press(before, mark), after, `${before} ${mark}`);
});

test("typing begins behind the frontmatter", () => {
  const where = (text) => beginning(Text.of(text.split("\n")));
  assert.equal(where("---\ntags: a\n---\n# Title\n"), 16);
  assert.equal(where("---\ntags: a\n..."), 15);
  assert.equal(where("# Title\n---\n"), 0);
  assert.equal(where("---\nno end\n"), 0);
  assert.equal(where(""), 0);
  assert.equal(headLines(Text.of(["---", "a: b --- c", "---", "x"])), 3);
});
