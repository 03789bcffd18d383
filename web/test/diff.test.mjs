import assert from "node:assert/strict";
import { test } from "node:test";

import { diff, tightDiff } from "../app/diff.js";
import { applied, rebase } from "../app/live/rebase.js";
import { dice } from "./dice.mjs";

const patched = (a, b, hunks) => applied(a, hunks.map(({ fromA, toA, fromB, toB }) => (
  { from: fromA, to: toA, insert: b.slice(fromB, toB) })));

test("hunks make one text of the other, and are words", () => {
  const a = "The quick brown fox.\nSecond line\nthird\n";
  const b = "The slow brown fox.\nthird\nand more\n";
  const hunks = diff(a, b);
  assert.equal(patched(a, b, hunks), b);
  assert.equal(a.slice(hunks[0].fromA, hunks[0].toA), "quick");
  assert.equal(b.slice(hunks[0].fromB, hunks[0].toB), "slow");
  assert.deepEqual(diff(a, a), []);
});

test("random texts: always exact, never inside a code point", () => {
  const roll = dice(7);
  const parts = ["a", "b ", "word ", "\n", "😀", "👍🏽", "é", "日本", "\n\n", "- [ ] x\n", "."];
  const text = () => Array.from({ length: roll(40) }, () => parts[roll(parts.length)]).join("");
  for (let n = 0; n < 3000; n += 1) {
    const [a, b] = [text(), text()];
    for (const find of [diff, tightDiff]) {
      const hunks = find(a, b);
      assert.equal(patched(a, b, hunks), b);
      let last = -1;
      for (const { fromA, toA, fromB, toB } of hunks) {
        assert.ok(fromA > last || (fromA === last && fromA === 0) || find === tightDiff);
        last = toA;
        for (const [whole, at] of [[a, fromA], [a, toA], [b, fromB], [b, toB]]) {
          const low = whole.charCodeAt(at) & 0xfc00;
          assert.ok(!(low === 0xdc00 && (whole.charCodeAt(at - 1) & 0xfc00) === 0xd800));
        }
      }
    }
  }
});

test("two texts with nothing in common are found quickly enough to be found", () => {
  const a = Array.from({ length: 20_000 }, (_, n) => `left ${n}\n`).join("");
  const b = Array.from({ length: 20_000 }, (_, n) => `right ${n}\n`).join("");
  assert.equal(patched(a, b, diff(a, b)), b);
});

const carried = (base, mine, theirs) => applied(theirs, rebase(base, mine, theirs));

test("edits of different places are both there", () => {
  const base = "one\ntwo\nthree\n";
  assert.equal(carried(base, "one!\ntwo\nthree\n", "one\ntwo\nTHREE\nfour\n"),
    "one!\ntwo\nTHREE\nfour\n");
  assert.equal(carried("the quick brown fox", "the slow brown fox", "the quick brown cat"),
    "the slow brown cat");
});

test("what both wrote alike is there once", () => {
  const base = "one\n";
  assert.equal(carried(base, "one\ntwo\n", "one\ntwo\n"), "one\ntwo\n");
  assert.equal(carried(base, "one\ntwo and three\n", "one\ntwo\n"), "one\ntwo and three\n");
  assert.equal(carried(base, "one\ntwo\n", "one\ntwo and three\n"), "one\ntwo and three\n");
});

test("of the same words changed by both, neither is lost", () => {
  const out = carried("a quick fox\n", "a slow fox\n", "a fast fox\n");
  assert.match(out, /slow/);
  assert.match(out, /fast/);
  assert.match(carried("a quick fox\n", "a fox\n", "a fast fox\n"), /fast/);
});

test("laws of carrying over", () => {
  const roll = dice(3);
  const line = () => `${["alpha", "beta 😀", "gamma delta", "", "- item"][roll(5)]} ${roll(9)}\n`;
  const changed = (text) => {
    const all = text.split(/(?<=\n)/);
    for (let n = roll(4); n > 0; n -= 1) {
      const at = roll(all.length + 1);
      if (roll(3) === 0) all.splice(at, 1);
      else all.splice(at, roll(2), line());
    }
    return all.join("");
  };
  for (let n = 0; n < 2000; n += 1) {
    const base = Array.from({ length: roll(12) }, line).join("");
    const [mine, theirs] = [changed(base), changed(base)];
    assert.equal(carried(base, mine, base), mine);
    assert.equal(carried(base, base, theirs), theirs);
    assert.equal(carried(base, mine, mine), mine);
    // Every line that only one side wrote is there afterwards.
    const out = carried(base, mine, theirs);
    for (const side of [mine, theirs]) {
      for (const word of new Set(side.match(/\S+/g) ?? [])) {
        if (!base.includes(word)) assert.ok(out.includes(word), JSON.stringify({ base, mine, theirs, out, word }));
      }
    }
  }
});
