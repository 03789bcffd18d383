// A note as it is read: its tasks, its footnotes; and files that are no notes.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { closeChrome, cursor, edit, look, person, saved, story, textIn, until } from "./kit.mjs";

after(closeChrome);

const NOTE = "Tasks.md";
const box = (page, name) => page.locator("article").getByRole("checkbox", { name, exact: true });
const checked = (page, name, wanted) => until(
  () => box(page, name).isChecked().catch(() => null), (is) => is === wanted, `${name} is ticked`);

const MANY = [
  "---", "tags: [home]", "---", "# [ ] List", "", "- [ ] bread and [[butter]]", "  1. [X] black", "  2. [ ] white",
  "", "> - [ ] in a quote", "", "```", "- [ ] in code", "```", "", "* [ ] last", "",
].join("\r\n");

test("a task is ticked where one reads, and nothing but its letter changes", story({ [NOTE]: MANY }, async (world) => {
  const page = await person(world);
  await look(world, page, NOTE);
  await page.locator("table.frontmatter").getByText("home").waitFor();
  await until(() => page.locator("article").getByRole("checkbox").count(), (count) => count === 5);
  let text = MANY;
  const tick = async (name, now, then) => {
    await box(page, name).click();
    text = text.replace(now, then);
    await world.onDisk(NOTE, (there) => there === text);
  };
  await tick("bread and butter", "[ ] bread", "[x] bread");
  await tick("in a quote", "[ ] in a", "[x] in a");
  await tick("black", "[X] black", "[ ] black");
  await page.locator("article").evaluate((one) => { one.firstElementChild.id = "same"; });
  await box(page, "last").focus();
  for (const [now, then] of [["[ ] last", "[x] last"], ["[x] last", "[ ] last"]]) {
    await page.keyboard.press("Space");
    text = text.replace(now, then);
    await world.onDisk(NOTE, (there) => there === text);
  }
  assert.equal(await page.locator("#same").count(), 1, "drawn once");
  assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("aria-label")), "last");
  await page.keyboard.press("h");
  await page.locator(".timeline button").first().waitFor();
  await until(() => page.locator(".timeline li").count(), (count) => count === 6);
}));

test("tasks ticked where others write come into their text, and nobody's words are lost", story({
  [NOTE]: "# List\n\n- [ ] milk\n- [ ] bread\n- [ ] eggs\n\n",
}, async (world) => {
  const [reader, writer] = [await person(world), await person(world)];
  await edit(world, writer, NOTE);
  await look(world, reader, NOTE);
  await box(reader, "bread").waitFor();
  await cursor(writer, "end");
  const words = Array.from({ length: 60 }, (_, n) => `w${n} `);
  const typing = (async () => { for (const word of words) await writer.keyboard.type(word, { delay: 10 }); })();
  await until(() => textIn(writer), (text) => text.includes("w5 "));
  for (const name of ["milk", "bread", "eggs"]) await box(reader, name).click();
  await until(() => textIn(writer), (text) => (text.match(/\[x\]/g) ?? []).length === 3);
  await until(() => textIn(writer), (text) => text.includes("w40 "));
  await box(reader, "bread").click();
  await typing;
  const whole = `# List\n\n- [x] milk\n- [ ] bread\n- [x] eggs\n\n${words.join("")}`;
  await until(() => textIn(writer), (text) => text === whole);
  await saved(writer);
  await world.onDisk(NOTE, (text) => text === whole);
  await reader.locator("article").getByText("w59").waitFor();
  await checked(reader, "milk", true);
  await checked(reader, "bread", false);
}));

test("a task ticked right after writing is in the note with what was written", story({
  [NOTE]: "- [ ] milk\n\n",
}, async (world) => {
  const page = await person(world);
  await edit(world, page, NOTE);
  await cursor(page, "end");
  await page.keyboard.type("more words");
  await page.keyboard.press("Escape");
  await box(page, "milk").click();
  await world.onDisk(NOTE, (text) => text === "- [x] milk\n\nmore words");
  await page.locator("article").getByText("more words").waitFor();
  await checked(page, "milk", true);
}));

test("a tick is merged with an edit that came before it, and a refused one is taken back", story({
  [NOTE]: "# List\n\n- [ ] milk\n\nthe end\n",
}, async (world) => {
  const page = await person(world);
  await look(world, page, NOTE);
  let go = () => {};
  await page.route("**/changes", async (route) => {
    await new Promise((done) => { go = done; });
    await route.continue();
  });
  await box(page, "milk").click();
  assert.equal(await box(page, "milk").isChecked(), true, "at once");
  world.write(NOTE, "# List of today\n\n- [ ] milk\n\nthe very end\n");
  await page.getByRole("treeitem").first().waitFor();
  const other = await person(world);
  await look(world, other, NOTE);
  await other.getByText("the very end").waitFor();
  go();
  await world.onDisk(NOTE, (text) => text === "# List of today\n\n- [x] milk\n\nthe very end\n");
  await page.getByText("the very end").waitFor();
  await checked(page, "milk", true);
  await page.unroute("**/changes");
  await page.route("**/changes", (route) => route.abort());
  await box(page, "milk").click();
  await page.getByText("The server does not answer").waitFor();
  await checked(page, "milk", true);
}));

test("who may only read sees tasks and ticks none", story({ [NOTE]: "- [ ] milk\n- [x] bread\n" }, async (world) => {
  const page = await person(world, { code: world.invite("--read-only") });
  await look(world, page, NOTE);
  await box(page, "milk").waitFor();
  assert.deepEqual([await box(page, "milk").isDisabled(), await box(page, "bread").isDisabled()], [true, true]);
  await checked(page, "bread", true);
  world.write(NOTE, "- [x] milk\n- [x] bread\n");
  await checked(page, "milk", true);
}));

const FOOTED = `---
a: b
---
# Head[^1]

One[^1], two^[at *once*], one again[^1], none[^2].

${"filler\n\n".repeat(60)}- [ ] task[^1]

[^1]: The first, <b>as it is written</b>.

    - [ ] a task in it

[[Tasks#Head]] end
`;

test("footnotes are reached and left again without another address", story({ [NOTE]: FOOTED }, async (world) => {
  const page = await person(world);
  await look(world, page, NOTE);
  const notes = page.getByRole("region", { name: "Footnotes" });
  await notes.getByText("The first, <b>as it is written</b>.").waitFor();
  assert.equal(await notes.getByRole("listitem").count(), 3);
  await page.locator("article").getByText("none[^2].").waitFor();
  const [address, depth] = [page.url(), await page.evaluate(() => history.length)];
  const inSight = (what) => until(() => what.evaluate((one) => {
    const { top, bottom } = one.getBoundingClientRect();
    return top > 0 && bottom < innerHeight;
  }));
  const refs = page.locator("article").getByRole("link", { name: "Footnote 1", exact: true });
  assert.equal(await refs.count(), 4);
  await refs.nth(2).focus();
  await page.keyboard.press("Enter");
  await inSight(notes.getByText("The first"));
  assert.match(await page.evaluate(() => document.activeElement?.textContent), /The first/);
  await notes.getByRole("link", { name: "Back to the text of footnote 1, place 3" }).click();
  await inSight(refs.nth(2));
  assert.ok(await refs.nth(2).evaluate((one) => document.activeElement === one));
  assert.deepEqual([page.url(), await page.evaluate(() => history.length)], [address, depth]);
  const way = await refs.first().getAttribute("href");
  const other = await page.context().newPage();
  await other.goto(`${world.origin}/${way}`);
  await inSight(other.getByText("The first"));
  await box(page, "task").click();
  await box(page, "a task in it").click();
  await world.onDisk(NOTE, (text) => text === FOOTED.replaceAll("[ ]", "[x]"));
  await page.getByRole("link", { name: "Tasks › Head" }).click();
  await inSight(page.getByRole("heading", { name: /^Head/ }));
}));

test("a note with more footnotes than it can have is shown without them", story({
  [NOTE]: Array.from({ length: 30_000 }, (_, n) => `a[^${n}]\n\n[^${n}]: b\n`).join("\n"),
}, async (world) => {
  const page = await person(world);
  await look(world, page, NOTE);
  await page.locator("article").getByText("^29999").waitFor();
}));

test("files of text are shown as they are, and others are not", story({
  "data.csv": "name,what\n<b>x</b>,1\n", LICENSE: "Do what you want.\n", "long.log": "line\n".repeat(100_000), "empty.txt": "",
}, async (world) => {
  world.write("tool.bin", Buffer.from([0x7f, 0x45, 0x4c, 0x46, 0, 1, 2, 3]));
  const page = await person(world);
  const shown = page.locator("pre.plain-text");
  const open = async (path) => {
    await look(world, page, path);
    await page.locator("h1").getByText(path).waitFor();
  };
  await page.getByRole("treeitem", { name: "tool.bin" }).waitFor();
  await open("data.csv");
  await until(() => shown.allTextContents(), ([text]) => text === "name,what\n<b>x</b>,1\n");
  world.write("data.csv", "other\n");
  await until(() => shown.allTextContents(), ([text]) => text === "other\n");
  await open("LICENSE");
  await shown.getByText("Do what you want.").waitFor();
  await open("long.log");
  await page.getByText("This is how it begins").waitFor();
  assert.equal((await shown.textContent())?.length, 256_000);
  const saving = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download all of it" }).click();
  assert.equal((await saving).suggestedFilename(), "long.log");
  await open("empty.txt");
  await page.getByText("There is nothing in it").waitFor();
  const answer = page.waitForResponse(/file\?path=tool\.bin/);
  await open("tool.bin");
  await (await answer).finished();
  await page.evaluate(() => new Promise((go) => { requestAnimationFrame(() => requestAnimationFrame(go)); }));
  assert.equal(await shown.count(), 0);
}));

const LONG = [
  "# Ship", "", "<!-- mizzen, for the next edition", "", "- [ ] mast -->", "the mizzen", "", "> [!note]",
  ...Array.from({ length: 300 }, (_, n) => `Paragraph ${n} of a long note.\n`),
  "Here the **mizzen** mast stands, <!-- say which --> behind the main mast.", "",
  ...Array.from({ length: 300 }, (_, n) => `Paragraph ${n} of the other half.\n`),
].join("\n");

test("what was searched for is shown where it stands, and others' edits take nobody away from there", story({
  "Ship.md": LONG,
}, async (world) => {
  const page = await person(world);
  await page.keyboard.press("/");
  await page.keyboard.type("mizzen mast");
  await page.getByRole("option", { name: /Ship/ }).first().click();
  const place = page.locator("article p", { hasText: "stands" });
  await place.waitFor();
  const seen = () => place.evaluate((one) => {
    const { top, bottom } = one.getBoundingClientRect();
    return top > 0 && bottom < innerHeight;
  });
  await until(seen);
  assert.equal(await place.textContent(), "Here the mizzen mast stands,  behind the main mast.");
  assert.equal(await page.getByRole("checkbox").count(), 0, "of a comment");
  const marks = () => page.evaluate(() => CSS.highlights.get("found")?.size ?? 0);
  assert.equal(await marks(), 4);
  await page.locator("article h1").scrollIntoViewIfNeeded();
  await until(seen, (is) => !is);
  world.write("Ship.md", LONG.replace("# Ship", "# A ship with a mast"));
  await page.getByRole("heading", { name: "A ship with a mast" }).waitFor();
  await until(marks, (count) => count === 5);
  assert.equal(await seen(), false);
  await page.getByRole("heading", { name: "A ship with a mast" }).waitFor();
  await page.keyboard.press("h");
  await until(marks, (count) => count === 0);
}));

test("who begins to write goes on where they read", story({ "Ship.md": `---\ntags: [a]\n---\n${LONG}` }, async (world) => {
  const page = await person(world);
  await page.goto(`${world.origin}/#/v/vault/n/Ship.md?find=stands`);
  await page.locator("article p", { hasText: "stands" }).waitFor();
  await until(() => page.evaluate(() => document.getElementById("main")?.scrollTop), (top) => top > 1000);
  await page.keyboard.press("e");
  await saved(page);
  await page.keyboard.type("Look: ");
  await world.onDisk("Ship.md", (text) => /^Look: Here the \*\*mizzen\*\* mast stands/m.test(text));
  assert.ok(await page.locator(".cm-line", { hasText: "Look: Here" }).evaluate((one) => {
    const { top, bottom } = one.getBoundingClientRect();
    return top > 0 && bottom < innerHeight;
  }));
}));
