import assert from "node:assert/strict";
import { test } from "node:test";

import { LoroDoc } from "./loro.mjs";
import { Binding, CONTAINER, cleanInput } from "../app/live/binding.js";
import { EditorState, history, redo, undo } from "../vendor/codemirror.js";
import { dice } from "./dice.mjs";

/** A real editor state with a real document behind it; only the screen is missing. */
class Page {
  constructor(peer, snapshot) {
    this.doc = new LoroDoc();
    this.doc.setPeerId(peer);
    if (snapshot) this.doc.import(snapshot);
    this.state = EditorState.create({ extensions: [history({ newGroupDelay: 0 }), cleanInput] });
    this.binding = new Binding(this, () => {});
    this.binding.setDoc(this.doc);
    this.seen = new Map();
  }

  dispatch(spec) {
    const transaction = "newDoc" in spec ? spec : this.state.update(spec);
    this.state = transaction.state;
    this.binding.took([transaction]);
  }

  type(from, to, insert) {
    this.dispatch({ changes: { from, to, insert }, userEvent: "input.type" });
  }

  undo() {
    return undo({ state: this.state, dispatch: (t) => this.dispatch(t) });
  }

  redo() {
    return redo({ state: this.state, dispatch: (t) => this.dispatch(t) });
  }

  pull(other) {
    this.doc.commit();
    other.doc.commit();
    this.doc.import(other.doc.export({ mode: "update", from: this.doc.oplogVersion() }));
  }

  get text() {
    return this.state.doc.toString();
  }

  agrees() {
    this.doc.commit();
    assert.equal(this.doc.getText(CONTAINER).toString(), this.text);
  }
}

function pages(text, count) {
  const host = new LoroDoc();
  host.getText(CONTAINER).insert(0, text);
  host.commit();
  const snapshot = host.export({ mode: "snapshot" });
  return Array.from({ length: count }, (_, n) => new Page(BigInt(n + 1), snapshot));
}

const allPull = (all) => {
  for (const a of all) for (const b of all) if (a !== b) a.pull(b);
};

test("thousands of edits at once: every page shows the same, and its text is its document", async () => {
  const roll = dice(11);
  const all = pages("# Title\n\nSome words 😀 here.\n", 3);
  const inserts = ["x", "word ", "\n", "😀", "日本語", "\r\n", "a\rb", "é", "", "- [ ] task\n"];
  for (let n = 0; n < 4000; n += 1) {
    const page = all[roll(3)];
    const length = page.state.doc.length;
    switch (roll(10)) {
      case 0: page.pull(all[roll(3)]); break;
      case 1: page.undo(); break;
      case 2: page.redo(); break;
      case 3: {
        const a = roll(length + 1);
        page.type(a, Math.min(length, a + roll(12)), "");
        break;
      }
      case 4: {
        // Several ranges in one transaction, as with many cursors.
        const [a, b] = [roll(length + 1), roll(length + 1)].sort((x, y) => x - y);
        page.dispatch({ changes: [{ from: a, insert: "<" }, { from: b, insert: ">" }] });
        break;
      }
      default: {
        const a = roll(length + 1);
        page.type(a, Math.min(length, a + roll(3)), inserts[roll(inserts.length)]);
      }
    }
    // A browser comes here between any two edits of a person.
    await null;
    if (n % 40 === 0) page.agrees();
  }
  allPull(all);
  allPull(all);
  for (const page of all) page.agrees();
  assert.equal(all[0].text, all[1].text);
  assert.equal(all[1].text, all[2].text);
  assert.ok(all[0].text.length > 100);
  assert.doesNotMatch(all[0].text, /\r/);
});

test("undo takes back one's own edits and nobody else's", () => {
  const [a, b] = pages("one two three", 2);
  a.type(3, 3, " and a half");
  b.type(0, 0, "zero ");
  allPull([a, b]);
  b.type(b.text.length, b.text.length, " four");
  allPull([a, b]);
  assert.equal(a.text, "zero one and a half two three four");

  assert.ok(a.undo());
  assert.equal(a.text, "zero one two three four");
  assert.ok(!a.undo(), "the rest is not a's to undo");
  allPull([a, b]);
  assert.equal(b.text, a.text);
  assert.ok(a.redo());
  assert.equal(a.text, "zero one and a half two three four");
  allPull([a, b]);
  b.undo();
  b.undo();
  allPull([a, b]);
  assert.equal(a.text, "one and a half two three");
  a.agrees();
  b.agrees();
});

test("an undone deletion comes back where its place is now", () => {
  const [a, b] = pages("keep this and that", 2);
  a.type(5, 10, "");
  b.type(0, 0, "please ");
  allPull([a, b]);
  a.undo();
  allPull([a, b]);
  assert.equal(b.text, "please keep this and that");
});

test("half of a code point cut off does not part editor and text", async () => {
  const [a, b] = pages("x😀y", 2);
  a.type(1, 2, "");
  await null;
  a.agrees();
  a.type(0, 0, "\ud83d");
  a.type(0, 0, "q");
  await null;
  a.agrees();
  allPull([a, b]);
  assert.equal(a.text, b.text);
  assert.match(a.text, /^q.*x.*y$/s);
});

test("a large paste is cut into pieces that can be sent one by one", () => {
  const [a, b] = pages("", 2);
  let cuts = 0;
  a.binding.onEdit = (large) => { cuts += large ? 1 : 0; };
  const text = "0123456789 😀\n".repeat(60_000);
  a.type(0, 0, text);
  assert.ok(cuts >= 4, `${cuts} cuts`);
  allPull([a, b]);
  assert.equal(b.text, text);
});

test("another document in its place: the editor shows it, and undo still knows its own", () => {
  const [a] = pages("one\ntwo\n", 1);
  a.type(4, 4, "mine ");
  const other = new LoroDoc();
  other.getText(CONTAINER).insert(0, "zero\none\nmine two\n");
  other.commit();
  a.binding.setDoc(other);
  assert.equal(a.text, "zero\none\nmine two\n");
  a.undo();
  assert.equal(a.text, "zero\none\ntwo\n");
  other.commit();
  assert.equal(other.getText(CONTAINER).toString(), a.text);
});
