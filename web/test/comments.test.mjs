import assert from "node:assert/strict";
import { test } from "node:test";

import MarkdownIt from "../vendor/markdown-it.js";
import { comments } from "../app/comments.js";

const md = new MarkdownIt({ html: false });
md.use(comments);
const drawn = (source) => md.render(source).replaceAll("\n", "");

test("comments are not drawn: of a line, of several, between words, in lists", () => {
  assert.equal(drawn("a\n\n<!-- b -->\n\nc"), "<p>a</p><p>c</p>");
  assert.equal(drawn("<!--\n# b\n\n- [ ] c\n-->\nd"), "<p>d</p>");
  assert.equal(drawn("a <!-- b --> c<!---->"), "<p>a  c</p>");
  assert.equal(drawn("a <!-- b\nc --> d"), "<p>a  d</p>");
  assert.equal(drawn("- a\n  <!-- b -->\n- c"), "<ul><li>a</li><li>c</li></ul>");
  assert.equal(drawn("> <!-- a -->\n> b"), "<blockquote><p>b</p></blockquote>");
});

test("what is no whole comment stays", () => {
  assert.equal(drawn("<!-- a\n\nb"), "<p>&lt;!-- a</p><p>b</p>");
  assert.equal(drawn("<!-- a --> b"), "<p> b</p>");
  assert.equal(drawn("<!-- a\n\nb --> c"), "<p>&lt;!-- a</p><p>b --&gt; c</p>");
  assert.equal(drawn("- <!-- a\n\nb -->"), "<ul><li>&lt;!-- a</li></ul><p>b --&gt;</p>");
  assert.equal(drawn("`<!-- a -->`"), "<p><code>&lt;!-- a --&gt;</code></p>");
  assert.equal(drawn("\\<!-- a -->"), "<p>&lt;!-- a --&gt;</p>");
  assert.equal(drawn("```\n<!-- a -->\n```"), "<pre><code>&lt;!-- a --&gt;</code></pre>");
  assert.equal(drawn("    <!-- a -->"), "<pre><code>&lt;!-- a --&gt;</code></pre>");
});
