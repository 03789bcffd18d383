import assert from "node:assert/strict";
import { test } from "node:test";

import { sittings } from "../app/sittings.js";

const one = (version, ms, more = {}) => (
  { version, note: "a", op: "edit", session: "s", received_ms: ms, stamp: { ms }, ...more });
const shape = (list) => sittings(list).map((sitting) => sitting.map(({ version }) => version));

test("versions of a session without a long pause are one sitting", () => {
  assert.deepEqual(shape([one(4, 200_000), one(3, 100_000), one(2, 50_000), one(1, 48_000)]),
    [[4], [3, 2, 1]]);
});

test("what another session, another note, or no session wrote stands by itself", () => {
  const list = [one(6, 60), one(5, 50, { note: "b" }), one(4, 40), one(3, 30, { session: "t" }),
    one(2, 20, { session: null }), one(1, 10, { session: null })];
  assert.deepEqual(shape(list), [[6, 4], [5], [3], [2], [1]]);
});

test("what is no edit stands by itself", () => {
  const list = [one(4, 40), one(3, 30, { op: "restore" }), one(2, 20), one(1, 10, { op: "create" })];
  assert.deepEqual(shape(list), [[4], [3], [2], [1]]);
});
