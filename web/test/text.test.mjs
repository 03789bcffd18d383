import assert from "node:assert/strict";
import { test } from "node:test";

import { asText } from "../app/text.js";

const utf8 = (text) => new TextEncoder().encode(text);

test("text is known by its bytes, whatever the file is called", () => {
  assert.equal(asText(utf8("a,b\r\n1,2\tä\f\u001b[1m"), false), "a,b\r\n1,2\tä\f\u001b[1m");
  assert.equal(asText(utf8("\uFEFFmarked"), false), "marked");
  assert.equal(asText(new Uint8Array([0xff, 0xfe, 0x61, 0, 0xe4, 0]), false), "aä");
  assert.equal(asText(new Uint8Array([0xfe, 0xff, 0, 0x61]), false), "a");
  assert.equal(asText(new Uint8Array(), false), "");
});

test("what is not text is none", () => {
  assert.equal(asText(utf8("a\u0000b"), false), null);
  assert.equal(asText(new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a]), false), null);
  assert.equal(asText(new Uint8Array([0x61, 0xff]), false), null);
});

test("a letter cut in half at the end of what was asked for is left out, and else no text", () => {
  const half = utf8("ab€").slice(0, -1);
  assert.equal(asText(half, true), "ab");
  assert.equal(asText(half, false), null);
});
