import assert from "node:assert/strict";
import { test } from "node:test";

import { comments } from "../app/comments.js";
import { Ticks, differInBoxes, isDone, placeIn, tasks, withTask } from "../app/tasks.js";
import MarkdownIt from "../vendor/markdown-it.js";

const md = new MarkdownIt().use(comments).use(tasks);

/** What stands at each box of a text, in its order. */
function boxes(text, from = 0) {
  const html = md.render(text.slice(from), { text, from });
  return [...html.matchAll(/data-at="(\d+)"( checked)?/g)].map(([, at, checked]) => {
    assert.equal(isDone(text, Number(at)), Boolean(checked));
    return Number(at);
  });
}

/** The text with every box ticked, one after the other. */
const allDone = (text) => boxes(text).reduce((now, at) => withTask(now, at, true), text);

test("a box is where it stands in the text, however it is nested", () => {
  const text = [
    "# [ ] no task", "", "[ ] no task", "", "- [ ] one", "  - [X] two", "    1. [ ] three",
    "", "       more of it [ ]", "", "* [x] four", "+ [ ] five", "", "2) [ ] six", "",
    "> - [ ] seven", ">   > 1. [ ] eight", "", "- - [ ] nine", "-", "  [ ] ten", "", "-\t[ ] eleven", "",
  ].join("\n");
  const words = "one|two|three|four|five|six|seven|eight|nine|ten|eleven";
  assert.equal(boxes(text).length, words.split("|").length);
  assert.equal(allDone(text), text.replace(new RegExp(`\\[ \\] (${words})$`, "gm"), "[x] $1"));
});

test("a box behind a comment is none, one on the line after it is", () => {
  assert.deepEqual(boxes("- <!-- was [ ] before -->[ ] mow\n- <!-- a --> [x] b\n"), []);
  const text = "- <!-- see [link] -->\n  [ ] feed\n<!--\n- [ ] no\n-->\n- [ ] yes\n";
  assert.equal(allDone(text), text.replace("[ ] feed", "[x] feed").replace("[ ] yes", "[x] yes"));
});

test("what only looks like a task is none", () => {
  for (const text of [
    "```\n- [ ] fenced\n```\n", "    - [ ] indented\n", "- \\[ ] escaped\n", "- `[ ] code`\n", "- [ ]\n",
    "- [ ]glued\n", "- [y] other\n", "- a [ ] b\n", "- # [ ] heading\n", "- [x](link)\n",
    "- [x][]\n\n[x]: /to\n", "- &#91; ] entity\n", "~~~\n> - [x] in a quote\n~~~\n",
  ]) assert.deepEqual(boxes(text), [], text);
});

test("line ends of every kind, a byte order mark and a frontmatter move nothing", () => {
  const head = "\uFEFF---\r\ntags: [ ]\r\n---\r\n";
  const text = `${head}- [ ] one\r\n\r\n  more\r\n- [ ] two\r- [ ] three\n\u2028- [ ] no`;
  const found = boxes(text, head.length);
  assert.deepEqual(found.map((at) => text.slice(at + 4, at + 7)), ["one", "two", "thr"]);
  assert.equal(withTask(text, found[1], true), text.replace("[ ] two", "[x] two"));
});

test("a tick is of one letter, and of none where it is so already or no box is there", () => {
  assert.equal(withTask("- [ ] a", 2, true), "- [x] a");
  assert.equal(withTask("- [X] a", 2, false), "- [ ] a");
  assert.equal(withTask("- [X] a", 2, true), "- [X] a");
  assert.equal(withTask("- [ ] a", 3, true), "- [ ] a");
});

test("a box is found in another text by what stands around it, or not at all", () => {
  const before = "# List\n\n- [ ] milk\n- [ ] bread\n";
  const at = before.indexOf("[ ] bread");
  const after = "# The list\n\n- [x] milk\n- [ ] eggs\n- [x] bread\n- [ ] bread, black\n";
  assert.equal(placeIn(before, after, at), after.indexOf("[x] bread"));
  assert.equal(placeIn(before, before, at), at);
  for (const gone of ["", "- [ ] bread, black\n", "- [ ] eggs\n- bread\n", "- [ ] more bread\n"]) {
    assert.equal(placeIn(before, `# List\n\n- [ ] milk\n${gone}`, at), null, gone);
  }
});

test("texts that differ in boxes alone are known as such", () => {
  const text = "- [ ] a [ ]\n- [x] b\n";
  const at = boxes(text);
  assert.ok(differInBoxes(text, "- [x] a [ ]\n- [ ] b\n", at));
  assert.ok(!differInBoxes(text, "- [x] a [x]\n- [ ] b\n", at));
  assert.ok(!differInBoxes(text, "- [x] a [ ]\n- [y] b\n", at));
  assert.ok(!differInBoxes(text, "- [x] a [ ]\n- [ ] bc\n", at));
});

/** A server that merges nothing: it answers when it is told to. */
function server() {
  const asked = [];
  const send = (base, text) => new Promise((done, fail) => {
    asked.push({ base, text, done: () => done(`v${asked.length}`), fail: () => fail(new Error("no")) });
  });
  return { asked, send };
}

const settled = () => new Promise((go) => setImmediate(go));

test("ticks are shown at once and sent one after the other, each on what the last one made", async () => {
  const { asked, send } = server();
  const ticks = new Ticks(send);
  const loaded = { version: "v0", text: "- [ ] a\n- [ ] b\n", stored: 0 };
  const first = ticks.tick(loaded, loaded.text, 2, true);
  assert.equal(ticks.over(0), "- [x] a\n- [ ] b\n");
  const second = ticks.tick(loaded, ticks.over(0), 10, true);
  assert.equal(ticks.over(0), "- [x] a\n- [x] b\n");
  await settled();
  assert.equal(asked.length, 1);
  asked[0].done();
  await first;
  await settled();
  assert.deepEqual(asked.map(({ base, text }) => [base, text]),
    [["v0", "- [x] a\n- [ ] b\n"], ["v1", "- [x] a\n- [x] b\n"]]);
  assert.ok(ticks.over(1), "a text with the first of two lacks one");
  asked[1].done();
  await second;
  assert.equal(ticks.over(2), null);
});

test("a tick is a change to the version loaded, also where more is shown than that", async () => {
  const { asked, send } = server();
  const ticks = new Ticks(send);
  const loaded = { version: "v0", text: "- [ ] a\n", stored: 0 };
  void ticks.tick(loaded, "written just now\n- [ ] a\n", 19, true);
  await settled();
  assert.deepEqual([asked[0].base, asked[0].text], ["v0", "- [x] a\n"]);
  await assert.rejects(new Ticks(send).tick(loaded, "- [ ] new\n", 2, true), /not saved yet/);
  assert.equal(asked.length, 1);
});

test("a tick that fails takes back those behind it and none before", async () => {
  const { asked, send } = server();
  const ticks = new Ticks(send);
  const loaded = { version: "v0", text: "- [ ] a\n- [ ] b\n- [ ] c\n", stored: 0 };
  const all = [2, 10, 18].map((at) => ticks.tick(loaded, ticks.over(0) ?? loaded.text, at, true));
  const ends = Promise.allSettled(all.map((one) => one.catch((error) => { ticks.drop(); throw error; })));
  await settled();
  asked[0].done();
  await settled();
  asked[1].fail();
  assert.deepEqual((await ends).map(({ status }) => status), ["fulfilled", "rejected", "rejected"]);
  assert.equal(asked.length, 2);
  assert.equal(ticks.over(0), "- [x] a\n- [ ] b\n- [ ] c\n");
  assert.equal(ticks.over(1), null);
  void ticks.tick(loaded, ticks.over(0), 18, true);
  await settled();
  assert.equal(asked[2].base, "v1");
});
