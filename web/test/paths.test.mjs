import assert from "node:assert/strict";
import { test } from "node:test";

import { Names, fit, resolved, rowsOf, treeOf } from "../app/paths.js";
import { names, notes, withConflicts, withRevisions } from "../app/store.js";

const note = (path, more = {}) => ({
  path, note: `id of ${path}`, version: "v1", kind: "note", bytes: 1, changed_ms: 1, conflicts: 0,
  ...more,
});
const listOf = (...paths) => new Map(paths.map((path) => [path, note(path)]));

test("a tree shows folders first, by name, and only what is open", () => {
  const tree = treeOf(listOf("b.md", "a 10.md", "a 2.md", "z/deep/x.md", "z/y.md").values());
  assert.deepEqual(rowsOf(tree, new Set()).map(({ name }) => name), ["z", "a 2", "a 10", "b"]);
  assert.deepEqual(rowsOf(tree, new Set(["z", "z/deep"])).map(({ name, depth }) => `${depth} ${name}`),
    ["0 z", "1 deep", "2 x", "1 y", "0 a 2", "0 a 10", "0 b"]);
});

test("a wiki link finds its note by path, by the path's end, by name", () => {
  const names = new Names(listOf("a/Note.md", "b/Note.md", "b/c/Other.md", "pic.png").values());
  assert.equal(names.find("Note", "b/x.md"), "b/Note.md");
  assert.equal(names.find("a/note", "b/x.md"), "a/Note.md");
  assert.equal(names.find("c/Other.md", ""), "b/c/Other.md");
  assert.equal(names.find("pic.png", ""), "pic.png");
  assert.equal(names.find("Nowhere", ""), null);
  assert.equal(names.find("x/Note", ""), null);
  assert.equal(resolved("../c/./d.md", "a/b"), "a/c/d.md");
  assert.equal(resolved("/d.md", "a/b"), "d.md");
});

test("letters typed find the name before the folder", () => {
  const order = (typed, ...paths) => paths.map((path) => [path, fit(typed, path)])
    .filter(([, score]) => score > 0).sort((a, b) => b[1] - a[1]).map(([path]) => path);
  assert.deepEqual(order("plan", "plans/other.md", "x/Plan.md", "zzz.md"),
    ["x/Plan.md", "plans/other.md"]);
  assert.equal(order("grdn", "Garden.md", "Green.md").length, 1);
  assert.equal(fit("q", "abc.md"), -1);
  assert.deepEqual(order("mtg nts", "Meeting notes.md", "Mathematics/Algebra/Integers.md"), ["Meeting notes.md"]);
  assert.equal(fit("onion", "Projects/Orders/Information.md"), -1, "letters that stand about");
  assert.ok(fit("dn", "Drafts/Daily note.md") > 0, "the first word that begins so need not be the one");
  assert.deepEqual(order("daily", "Daily/x.md", "Daily.md", "Drafts/All in a list, yes.md"),
    ["Daily.md", "Daily/x.md", "Drafts/All in a list, yes.md"]);
  assert.deepEqual(order("2018 ch04", "2018/src/ch15-04-rc.md", "2018/src/ch04-03-slices.md"),
    ["2018/src/ch04-03-slices.md", "2018/src/ch15-04-rc.md"]);
  assert.deepEqual(order("ch4", "chapters/404.md", "src/ch04-01.md"), ["src/ch04-01.md", "chapters/404.md"]);
});

test("revisions bring a list up to date, or ask for the whole", () => {
  const before = listOf("a.md", "b.md", "c.md");
  const revision = (path, id, more) => ({
    version: "v2", note: id, op: "edit", path, from: null, kind: "note", bytes: 9,
    stamp: { ms: 5 }, author: "x", parents: [], user: null, device: null, received_ms: 7, seq: 9,
    ...more,
  });
  const after = withRevisions(before, [
    revision("moved.md", "id of a.md"),
    revision("older.md", "id of a.md"),
    revision(null, "id of b.md", { kind: null, bytes: null }),
    revision("new.md", "id of new.md"),
  ]);
  assert.deepEqual([...after.keys()].sort(), ["c.md", "moved.md", "new.md"]);
  assert.equal(after.get("moved.md").version, "v2");
  assert.deepEqual([...before.keys()], ["a.md", "b.md", "c.md"]);
  assert.equal(withRevisions(before, [revision("c.md", "another")]), null, "two notes of one path");
});

test("a conflict that is settled is none of the list's any more", () => {
  const list = new Map([["a.md", { path: "a.md", note: "n1", conflicts: 1 }], ["b.md", { path: "b.md", note: "n2", conflicts: 0 }]]);
  const after = withConflicts(list, new Map([["n2", 2]]));
  assert.deepEqual([...after.values()].map(({ conflicts }) => conflicts), [0, 2]);
  assert.equal(withConflicts(after, new Map([["n2", 2]])), after, "nothing to draw anew");
});

test("what links lead to stays the same while notes are edited, and not when one is renamed", () => {
  notes.value = listOf("a.md", "b.md");
  const before = names.value;
  notes.value = new Map([...notes.value, ["a.md", note("a.md", { version: "v2" })]]);
  assert.equal(names.value, before);
  notes.value = listOf("a.md", "c.md");
  assert.notEqual(names.value, before);
  assert.equal(names.value.find("c", ""), "c.md");
  notes.value = new Map();
  assert.equal(names.value.find("c", ""), null);
});
