import assert from "node:assert/strict";
import { test } from "node:test";

import "./loro.mjs";
import { Binding, cleanInput } from "../app/live/binding.js";
import { LiveClient } from "../app/live/client.js";
import { memoryShelf } from "../app/live/journal.js";
import { words } from "../app/live/words.js";
import { EditorState, history } from "../vendor/codemirror.js";
import { dice } from "./dice.mjs";
import { Room } from "./room.mjs";

/** Where the room is, and whether one gets there. */
class World {
  constructor(room) {
    this.room = room;
    this.up = true;
    this.refusal = null;
    this.shelf = memoryShelf();
    this.pages = [];
    this.opened = 0;
  }

  page(options = {}) {
    const page = new Page(this, options);
    this.pages.push(page);
    return page;
  }

  /** Every line ends, as when the server goes. */
  cut(code = 1006) {
    for (const page of this.pages) page.cut(code);
  }
}

/** A tab: editor state, binding and client, and a line that a test can cut. */
class Page {
  constructor(world, { id = `tab ${Math.random()}`, name = "ann", early } = {}) {
    this.world = world;
    this.state = EditorState.create({ extensions: [history({ newGroupDelay: 0 }), cleanInput] });
    this.binding = new Binding(this, (now) => this.client.edited(now));
    this.waiting = [];
    this.controls = [];
    this.people = [];
    this.line = null;
    this.client = new LiveClient({
      id, user: "u1", note: "n1", vault: "notes", path: "a.md",
      shelf: world.shelf,
      early,
      frame: (run) => setTimeout(run, 1),
      open: async () => {
        world.opened += 1;
        if (!world.up) throw Object.assign(new Error("no answer"), { status: 0 });
        if (world.refusal) throw world.refusal;
        return { id: world.room.id, epoch: world.room.epoch, ...world.answers };
      },
      connect: (session, handlers) => this.connect(session, handlers, name),
      onState: () => this.wake(),
      onDoc: (doc) => this.binding.setDoc(doc),
      onPresence: (people) => { this.people = people; this.wake(); },
      onControl: (event) => { this.controls.push(event); this.wake(); },
    });
  }

  connect(session, handlers, name) {
    const { world } = this;
    const { room } = world;
    const line = { over: false };
    this.line = line;
    const later = (run) => setTimeout(() => { if (!line.over) run(); }, 0);
    const end = (code) => {
      if (line.over) return;
      line.over = true;
      line.room?.gone();
      handlers.onClose(code);
    };
    line.end = end;
    later(() => {
      if (!world.up) return end(1006);
      if (session !== room.id) return end(4404);
      line.room = room.connect((frame) => {
        later(() => { handlers.onFrame(frame.slice()); this.wake(); });
      }, name);
      return handlers.onOpen();
    });
    return {
      send: (frame) => { if (!line.over && world.up) line.room?.take(frame.slice()); },
      close: () => { line.over = true; line.room?.gone(); },
    };
  }

  cut(code = 1006) {
    this.line?.end?.(code);
  }

  dispatch(spec) {
    const transaction = "newDoc" in spec ? spec : this.state.update(spec);
    this.state = transaction.state;
    this.binding.took([transaction]);
    this.wake();
  }

  type(at, insert, to = at) {
    this.dispatch({ changes: { from: at, to, insert } });
  }

  append(insert) {
    this.type(this.state.doc.length, insert);
  }

  get text() {
    return this.state.doc.toString();
  }

  get says() {
    return words(this.client.state);
  }

  wake() {
    for (const look of [...(this.waiting ?? [])]) look();
  }

  /** Until it is so; a test that waits in vain is ended by the runner, with this place named. */
  until(isSo) {
    return new Promise((resolve) => {
      const look = () => {
        if (!isSo()) return;
        this.waiting.splice(this.waiting.indexOf(look), 1);
        clearInterval(again);
        resolve();
      };
      const again = setInterval(look, 5);
      this.waiting.push(look);
      look();
    });
  }

  saved() {
    return this.until(() => this.says === "Saved");
  }
}

/** Two pages and a room, all of one text. */
const alike = async (room, ...pages) => {
  for (const page of pages) await page.until(() => page.text === room.text);
};

test("two write at once; saved is said when it is", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  const [a, b] = [world.page({ name: "ann" }), world.page({ name: "bob" })];
  assert.equal(a.says, "Opening…");
  await Promise.all([a.client.start(), b.client.start()]);
  await a.saved();
  await b.saved();
  assert.equal(a.text, "one\n");
  let release;
  room.answer = () => (release ? 0 : "silence");
  a.append("two\n");
  assert.equal(a.says, "Saving…");
  b.type(0, "zero\n");
  await a.until(() => a.client.pending.size > 0);
  assert.equal(a.says, "Saving…", "nothing answered yet");
  release = true;
  world.cut();
  await a.saved();
  await b.saved();
  await alike(room, a, b);
  assert.equal(room.text, "zero\none\ntwo\n");
  for (const page of [a, b]) page.client.stop();
});

test("carets of the others are where they are in the text", async () => {
  const room = new Room("one two three\n");
  const world = new World(room);
  const [a, b] = [world.page({ name: "ann" }), world.page({ name: "<b>bob</b>" })];
  await Promise.all([a.client.start(), b.client.start()]);
  await a.saved();
  await b.saved();
  b.client.select(4, 7);
  await a.until(() => a.people[0]?.head === 7);
  assert.equal(a.people[0].anchor, 4);
  a.type(0, "zero ");
  await b.until(() => b.text.startsWith("zero"));
  b.type(0, "!");
  await a.until(() => a.text.startsWith("!") && a.people[0].head === 13);
  for (const page of [a, b]) page.client.stop();
});

test("names at carets are the server's, never what somebody says of themselves", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  const [a, b, c] = ["ann", "the boss", "ann"].map((name) => world.page({ name }));
  await Promise.all([a, b, c].map((page) => page.client.start()));
  await Promise.all([a, b, c].map((page) => page.saved()));
  await a.until(() => a.people.length === 2);
  assert.deepEqual(a.people.map(({ name }) => name), ["Somebody", "Somebody"]);
  const peers = (page) => [page.client.doc.peerIdStr];
  room.control({ type: "people", people: [
    { name: "ann", peers: peers(a) }, { name: "<b>bob</b>", peers: peers(b) },
    { name: "ann", device_name: "phone", peers: peers(c) }, { name: "away", peers: [] },
  ] });
  const called = (who) => a.people.find(({ peer }) => peer === who.client.doc.peerIdStr)?.name;
  await a.until(() => called(b) === "<b>bob</b>");
  assert.equal(called(c), "ann, phone", "nobody is called like oneself");
  room.control({ type: "people", people: [{ name: "ann", peers: peers(c) }] });
  await a.until(() => called(c) === "ann (2)");
  a.client.name = "ann, laptop";
  room.control({ type: "people", people: [{ name: "ann", device_name: "desk", peers: peers(c) }] });
  await a.until(() => called(c) === "ann, desk");
  for (const page of [a, b, c]) page.client.stop();
});

test("what is typed before the document is there goes into it", async () => {
  const room = new Room("one\ntwo\n");
  const world = new World(room);
  const a = world.page({ early: () => ({ base: "one\n", text: "zero\none\n" }) });
  await a.client.start();
  await a.saved();
  assert.equal(room.text, "zero\none\ntwo\n");
  room.role = "read";
  const b = world.page({ early: () => ({ base: "one\n", text: "zero\none\n" }) });
  await b.client.start();
  await b.until(() => b.says === "Read only");
  assert.equal(b.text, room.text);
  for (const page of [a, b]) page.client.stop();
});

/** A page that wrote offline while its session ended. */
async function wroteOffline(world) {
  const a = world.page();
  await a.client.start();
  await a.saved();
  world.up = false;
  a.cut(4410);
  await a.until(() => a.says.startsWith("Offline"));
  a.append("secret\n");
  await a.until(() => a.client.keeper.there !== null);
  return a;
}

test("another note at the path: nothing is written into it, and the text is kept", async () => {
  for (const how of ["another note", "no note"]) {
    const world = new World(new Room("one\n"));
    const a = await wroteOffline(world);
    world.room = new Room("# Letter to my boss\n");
    if (how === "no note") world.refusal = Object.assign(new Error("no such note"), { status: 404 });
    else world.answers = { note: "n2", path: "a.md" };
    world.up = true;
    await a.until(() => a.says === "The note is gone; your text is kept here");
    assert.equal(world.room.text, "# Letter to my boss\n");
    assert.equal(a.text, "one\nsecret\n");
    await a.client.keeper.running;
    assert.equal((await world.shelf.all())[0].text, "one\nsecret\n");
    a.client.stop();
  }
});

test("the note has another path on return: the words go with the note", async () => {
  const world = new World(new Room("one\n"));
  const a = await wroteOffline(world);
  world.room = new Room("one\n");
  world.answers = { note: "n1", path: "b.md" };
  world.up = true;
  await a.saved();
  assert.equal(world.room.text, "one\nsecret\n");
  assert.deepEqual(a.controls.filter(({ type }) => type === "moved"), [{ type: "moved", path: "b.md" }]);
  a.client.stop();
});

test("a name that somebody took is left, and the words go on in another", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  const a = world.page();
  await a.client.start();
  await a.saved();
  const stolen = a.client.doc.peerIdStr;
  let refused = 0;
  room.answer = () => (a.client.doc.peerIdStr === stolen ? ((refused += 1), 3) : 0);
  a.append("two\n");
  await a.until(() => refused > 0 && a.says === "Saved");
  assert.equal(room.text, "one\ntwo\n");
  a.client.stop();
});

test("who may no longer write is told so, and the text is kept", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  const a = world.page();
  await a.client.start();
  await a.saved();
  room.role = "read";
  room.control({ type: "role", role: "read" });
  a.append("two\n");
  await a.until(() => a.says === "You may read this note, but no longer write in it.");
  assert.equal(a.text, "one\ntwo\n");
  a.client.stop();
});

test("no network: said at once; no Ack: said within seconds, and taken back", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  const a = world.page();
  await a.client.start();
  await a.saved();
  a.client.lineLost();
  assert.equal(a.says, "Offline — your edits are kept here");
  await a.saved();
  const waiting = [];
  room.answer = () => { waiting.push(1); return "silence"; };
  a.append("two\n");
  await a.until(() => a.says === "The server is not heard — your edits are kept here");
  assert.ok(waiting.length > 0);
  room.answer = () => 0;
  room.control({ type: "saved" });
  await a.until(() => a.says === "Saving…");
  a.cut();
  await a.saved();
  a.client.stop();
});

test("a server that cannot store says why, as long as it cannot", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  const a = world.page();
  await a.client.start();
  await a.saved();
  const why = "the server's disk is full; nothing was stored";
  room.answer = () => {
    room.control({ type: "unsaved", why });
    return 127;
  };
  a.append("two\n");
  const said = `Not saved: ${why} — your edits are kept here`;
  await a.until(() => a.says === said);
  // It comes again and again, and is never said to be offline.
  const tries = [];
  room.answer = () => {
    tries.push(a.says);
    return tries.length < 4 ? 127 : 0;
  };
  await a.saved();
  assert.deepEqual(tries, Array(4).fill(said));
  assert.equal(room.text, "one\ntwo\n");
  a.client.stop();
});

test("a full session is said to be, and tried again", async () => {
  const world = new World(new Room("one\n"));
  const a = world.page();
  await a.client.start();
  await a.saved();
  a.cut(4403);
  assert.equal(a.says, "Too many people are in this note; trying again");
  await a.saved();
  a.client.stop();
});

test("offline edits are kept, and sent on return", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  const [a, b] = [world.page(), world.page()];
  await Promise.all([a.client.start(), b.client.start()]);
  await a.saved();
  await b.saved();
  world.up = false;
  a.cut();
  await a.until(() => a.says === "Offline — your edits are kept here");
  a.append("from offline\n");
  await a.until(() => a.client.keeper.there !== null);
  assert.equal((await world.shelf.all())[0].text, "one\nfrom offline\n");
  world.up = true;
  b.type(0, "meanwhile\n");
  await a.saved();
  await alike(room, a, b);
  assert.equal(room.text, "meanwhile\none\nfrom offline\n");
  await a.client.keeper.running;
  assert.deepEqual(await world.shelf.all(), []);
  for (const page of [a, b]) page.client.stop();
});

/** Types without a line, and closes the page; what is left lies on the shelf. */
async function leftBehind(world, room, edit) {
  const gone = world.page({ id: "closed tab" });
  await gone.client.start();
  await gone.saved();
  world.up = false;
  gone.cut();
  edit(gone);
  gone.client.leaving();
  await gone.client.keeper.running;
  gone.client.stop();
  gone.cut();
  world.up = true;
  const drafts = await world.shelf.all();
  assert.equal(drafts.length, 1);
  assert.equal(drafts[0].epoch, room.epoch);
  return drafts[0];
}

test("a page closed mid-word: the next one sends what it could not", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  const draft = await leftBehind(world, room, (page) => page.append("half a wor"));
  assert.equal(draft.base, "one\n");
  assert.equal(draft.text, "one\nhalf a wor");
  const next = world.page();
  await next.client.start();
  await next.saved();
  await alike(room, next);
  assert.equal(room.text, "one\nhalf a wor");
  await next.client.keeper.running;
  await next.until(() => true);
  assert.deepEqual((await world.shelf.all()).map(({ id }) => id), []);
  next.client.stop();
});

test("a draft that had arrived after all changes nothing", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  const draft = await leftBehind(world, room, (page) => page.append("two\n"));
  room.doc.import(draft.updates);
  const next = world.page();
  await next.client.start();
  await next.saved();
  assert.equal(room.text, "one\ntwo\n");
  assert.equal(next.text, room.text);
  next.client.stop();
});

test("another epoch: the old document is not imported, its edits are carried over", async () => {
  const world = new World(new Room("one\ntwo\n"));
  await leftBehind(world, world.room, (page) => page.type(3, " and a half"));
  world.room = new Room("zero\none\ntwo\n");
  const next = world.page();
  await next.client.start();
  await next.saved();
  await alike(world.room, next);
  assert.equal(world.room.text, "zero\none and a half\ntwo\n");
  next.client.stop();
});

test("another epoch under an open page, with edits on the way: nothing twice, nothing lost", async () => {
  const world = new World(new Room("one\n"));
  const [a, b] = [world.page(), world.page()];
  await Promise.all([a.client.start(), b.client.start()]);
  await a.saved();
  await b.saved();
  b.append("saved by b\n");
  await b.saved();
  await a.until(() => a.text === world.room.text);
  world.up = false;
  world.cut(4410);
  a.type(0, "by a\n");
  b.append("by b\n");
  world.room = new Room("one\nsaved by b\n");
  world.up = true;
  await a.saved();
  await b.saved();
  await alike(world.room, a, b);
  assert.equal(world.room.text, "by a\none\nsaved by b\nby b\n");
  assert.equal(a.client.epoch, world.room.epoch);
  for (const page of [a, b]) page.client.stop();
});

test("what the server cannot read is carried over to what it gives out", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  const a = world.page();
  await a.client.start();
  await a.saved();
  let refused = 0;
  room.answer = () => ((refused += 1) === 1 ? 4 : 0);
  a.append("two\n");
  await a.until(() => refused > 1 && a.says === "Saved");
  assert.equal(room.text, "one\ntwo\n");
  assert.equal(a.text, room.text);
  a.client.stop();
});

test("a draft still being written when all is saved goes all the same", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  const a = world.page();
  await a.client.start();
  await a.saved();
  const { put } = world.shelf;
  let writes;
  const written = new Promise((resolve) => { writes = resolve; });
  const held = new Promise((resolve) => {
    world.shelf.put = async (draft) => { resolve(); await written; await put(draft); };
  });
  let answer;
  room.answer = () => "silence";
  a.append("two\n");
  await held;
  room.answer = () => { answer = true; return 0; };
  world.cut();
  await a.saved();
  assert.ok(answer);
  writes();
  await a.client.keeper.running;
  assert.deepEqual(await world.shelf.all(), []);
  a.client.stop();
});

for (const [title, refusal, says] of /** @type {const} */ ([
  ["signed out in the middle", { status: 401, message: "This token was revoked." },
    "You were signed out — your text is kept here; copy it"],
  ["taken out of the vault in the middle", { status: 403, message: "You are no member.", hint: "Ask its owner." },
    "You are no member. Ask its owner."],
])) {
  test(`${title}: the text stays, and it is said`, async () => {
    const room = new Room("one\n");
    const world = new World(room);
    const a = world.page();
    await a.client.start();
    await a.saved();
    room.answer = () => "silence";
    a.append("two\n");
    world.refusal = refusal;
    a.cut(4401);
    await a.until(() => a.says === says);
    assert.equal(a.text, "one\ntwo\n");
    await a.client.keeper.running;
    assert.equal((await world.shelf.all())[0].text, "one\ntwo\n");
    a.client.stop();
  });
}

test("who may only read sees what the others write", async () => {
  const room = new Room("one\n");
  const world = new World(room);
  room.role = "read";
  const a = world.page();
  await a.client.start();
  await a.until(() => a.says === "Read only");
  room.outside("one\ntwo\n");
  await a.until(() => a.text === "one\ntwo\n" && a.controls.some(({ type }) => type === "outside"));
  a.client.stop();
});

test("a paste larger than a frame arrives whole, in updates the server takes", async () => {
  const room = new Room("");
  const world = new World(room);
  const a = world.page();
  await a.client.start();
  await a.saved();
  const sizes = [];
  room.answer = ({ updates }) => { sizes.push(updates[0].length); return 0; };
  const random = dice(5);
  const text = Array.from({ length: 300_000 }, () => String.fromCodePoint(0x4e00 + random(20_000)));
  a.append(text.join(""));
  await a.saved();
  assert.equal(room.text, text.join(""));
  assert.ok(Math.max(...sizes) < 1 << 20 && Math.max(...sizes) > 256 << 10, sizes.join());
  a.client.stop();
});

test("cuts, silence and many hands: in the end all show one text with every word in it", async () => {
  const roll = dice(23);
  const room = new Room("start\n");
  const world = new World(room);
  const pages = [1, 2, 3].map((n) => world.page({ name: `p${n}` }));
  for (const page of pages) page.client.start();
  for (const page of pages) await page.saved();
  room.answer = () => (roll(7) === 0 ? "silence" : 0);
  const typed = [];
  for (let n = 0; n < 250; n += 1) {
    const page = pages[roll(3)];
    const word = `w${n}`;
    typed.push(word);
    page.type(roll(2) ? page.text.length : 0, ` ${word} `);
    if (roll(25) === 0) page.cut();
    if (roll(60) === 0) world.cut(1012);
    if (roll(4) === 0) await new Promise((resolve) => { setImmediate(resolve); });
    if (roll(30) === 0) await new Promise((resolve) => { page.client.flush(); resolve(); });
  }
  room.answer = () => 0;
  world.cut();
  for (const page of pages) await page.saved();
  await alike(room, ...pages);
  for (const word of typed) assert.equal(room.text.split(` ${word} `).length, 2, word);
  for (const page of pages) page.client.stop();
});
