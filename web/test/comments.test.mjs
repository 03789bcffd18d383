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

test("short comments end where they end, and dashes in one are no heading", () => {
  assert.equal(drawn("a\n\n<!-->\n\nb\n\n<!-- c -->\n\nd"), "<p>a</p><p>b</p><p>d</p>");
  assert.equal(drawn("<!--->\n\nb\n\n-->"), "<p>b</p><p>--&gt;</p>");
  assert.equal(drawn("a <!--> b --> c"), "<p>a  b --&gt; c</p>");
  assert.equal(drawn("<!--\nremark\n---\nmore | a\n--|--\n-->\n# b"), "<h1>b</h1>");
});

test("many comments that never end are drawn in the time of other text", () => {
  // Each would be looked through to the end: 100 000 of them for hours.
  const shown = (/** @type {string} */ text) => (text.match(/&lt;!-- x/g) ?? []).length;
  for (const [one, end] of [
    ["<!-- x\n", ""], ["<!-- x\n\n", ""], ["<!-- x\n\n", "--> y"], ["- <!-- x\n", "\n-->"],
  ]) {
    assert.equal(shown(drawn(one.repeat(100_000) + end)), 100_000, JSON.stringify([one, end]));
  }
  assert.equal(drawn(`${"<!-- x\n".repeat(100_000)}--> y`), "<p> y</p>");
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
