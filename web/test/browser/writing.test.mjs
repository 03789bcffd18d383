// Writing in one note together, as people do it: real pages, the real server, files on a disk.

import assert from "node:assert/strict";
import { renameSync, rmSync } from "node:fs";
import { after, test } from "node:test";

import {
  World, closeChrome, cursor, edit, look, person, saved, state, story as storyOf, textIn, until,
} from "./kit.mjs";

const NOTE = "Shopping.md";
const TEXT = "# Shopping\n\nmilk\nbread\n";

/** @param {(world: World) => Promise<void>} told */
const story = (told, files = { [NOTE]: TEXT }) => storyOf(files, told);

after(closeChrome);

const both = (pages, wanted) => Promise.all(pages.map((page) => (
  until(() => textIn(page), wanted, "the text in the page"))));

async function two(world) {
  const pages = [await person(world), await person(world)];
  for (const page of pages) await edit(world, page, NOTE);
  return pages;
}

test("two write at once, see each other's carets, and the file has both", story(async (world) => {
  const [anna, bert] = await two(world);
  await cursor(anna, "start");
  await cursor(bert, "end");
  await Promise.all([
    anna.keyboard.type("From Anna: ", { delay: 15 }), bert.keyboard.type("from Bert", { delay: 15 }),
  ]);
  const whole = "From Anna: # Shopping\n\nmilk\nbread\nfrom Bert";
  await both([anna, bert], (text) => text === whole);
  for (const page of [anna, bert]) {
    const caret = page.locator(".cm-content .caret .caret-name");
    await caret.first().waitFor({ state: "attached" });
    assert.ok((await caret.first().textContent())?.trim(), "a caret has a name");
    assert.equal(await page.locator(".people .person").count(), 1);
  }
  await world.onDisk(NOTE, (text) => text === whole);
  await bert.getByRole("button", { name: "Done" }).click();
  await until(() => anna.locator(".people .person").count(), (count) => count === 0);
}));

test("a caret says whose it is while they type, and hides no line above it when they rest", story(async (world) => {
  const [anna, bert] = await two(world);
  await cursor(bert, "end");
  const width = () => anna.locator(".cm-content .caret-name").evaluateAll((all) => all[0]?.offsetWidth ?? 0);
  await bert.keyboard.type("eggs");
  await until(width, (px) => px > 20);
  await until(width, (px) => px > 0 && px < 10);
  await anna.locator(".cm-content .caret-name").hover();
  await until(width, (px) => px > 20);
}));

test("where no WebSocket gets through, events do", story(async (world) => {
  const pages = [await person(world), await person(world)];
  await pages[0].addInitScript(() => {
    window.WebSocket = /** @type {any} */ (class { constructor() { throw new Error("blocked"); } });
  });
  await pages[0].reload();
  let sockets = 0;
  for (const page of pages) {
    page.on("websocket", () => { sockets += 1; });
    await edit(world, page, NOTE);
  }
  assert.equal(sockets, 1);
  await cursor(pages[0], "start");
  await cursor(pages[1], "end");
  await pages[0].keyboard.type("by events ");
  await pages[1].keyboard.type("by socket");
  await both(pages, (text) => text === `by events ${TEXT}by socket`);
  await pages[1].locator(".cm-content .caret").first().waitFor({ state: "attached" });
  await pages[0].getByRole("button", { name: "Done" }).click();
  await until(() => pages[1].locator(".people .person").count(), (count) => count === 0);
  await world.onDisk(NOTE, (text) => text === `by events ${TEXT}by socket`);
}));

test("undo takes back one's own and nobody else's", story(async (world) => {
  const [anna, bert] = await two(world);
  await cursor(anna, "start");
  await anna.keyboard.type("mine ");
  await both([anna, bert], (text) => text.startsWith("mine "));
  await cursor(bert, "end");
  await bert.keyboard.type("theirs");
  await both([anna, bert], (text) => text.endsWith("theirs"));
  await anna.keyboard.press("Control+z");
  await both([anna, bert], (text) => text === `${TEXT}theirs`);
  await anna.keyboard.press("Control+z");
  await bert.keyboard.press("Control+z");
  await both([anna, bert], (text) => text === TEXT);
}));

test("a page closed in the middle of a word has lost nothing when it opens again", story(async (world) => {
  const page = await person(world);
  await edit(world, page, NOTE);
  await cursor(page, "end");
  await page.keyboard.type("unfini");
  const context = page.context();
  await page.close({ runBeforeUnload: false });
  const again = await context.newPage();
  await edit(world, again, NOTE);
  await until(() => textIn(again), (text) => text === `${TEXT}unfini`);
  await saved(again);
  await world.onDisk(NOTE, (text) => text === `${TEXT}unfini`);
}));

test("what is written without the network is merged on return", story(async (world) => {
  const [anna, bert] = await two(world);
  await anna.context().setOffline(true);
  // Sockets that are open outlive it in Chromium: the server ends this one.
  await world.kill();
  await state(anna, (said) => said.startsWith("Offline"));
  await cursor(anna, "start");
  await anna.keyboard.type("Written on a train. ");
  assert.equal(await state(anna, Boolean), "Offline — your edits are kept here");
  await world.up();
  await saved(bert);
  await cursor(bert, "end");
  await bert.keyboard.type("eggs");
  await world.onDisk(NOTE, (text) => text === `${TEXT}eggs`);
  await anna.context().setOffline(false);
  await both([anna, bert], (text) => text === `Written on a train. ${TEXT}eggs`);
  await saved(anna);
  await world.onDisk(NOTE, (text) => text === `Written on a train. ${TEXT}eggs`);
}));

test("a server killed under two writing pages comes back without loss or doubling", story(async (world) => {
  const pages = await two(world);
  const [anna, bert] = pages;
  await cursor(anna, "start");
  await cursor(bert, "end");
  const words = (/** @type {string} */ who) => Array.from({ length: 30 }, (_, n) => `${who}${n} `);
  const typing = Promise.all([
    (async () => { for (const word of words("a")) await anna.keyboard.type(word, { delay: 8 }); })(),
    (async () => { for (const word of words("b")) await bert.keyboard.type(word, { delay: 8 }); })(),
  ]);
  await until(() => textIn(bert), (text) => /b10 /.test(text));
  await world.kill();
  await until(() => textIn(anna), (text) => /a20 /.test(text));
  await world.up();
  await typing;
  const [one, other] = await both(pages, (text) => [...words("a"), ...words("b")].every((word) => text.includes(word)));
  assert.equal(one, other);
  for (const word of [...words("a"), ...words("b")]) {
    assert.equal(one.split(word).length, 2, `${word}stands once in ${JSON.stringify(one)}`);
  }
  for (const page of pages) await saved(page);
  await world.onDisk(NOTE, (text) => text === one);
}));

test("a file saved by vim meanwhile comes into the pages, and theirs into the file", story(async (world) => {
  const pages = await two(world);
  await cursor(pages[0], "start");
  await pages[0].keyboard.type("typed ");
  world.write(NOTE, "# Shopping\n\nmilk\nbutter\nbread\n");
  const whole = "typed # Shopping\n\nmilk\nbutter\nbread\n";
  await both(pages, (text) => text === whole);
  await world.onDisk(NOTE, (text) => text === whole);
}));

test("an ended session is a file, a version by both, and on a second device", story(async (world) => {
  const pages = await two(world);
  await cursor(pages[0], "start");
  await pages[0].keyboard.type("one ");
  await cursor(pages[1], "end");
  await pages[1].keyboard.type("two");
  const whole = `one ${TEXT}two`;
  await both(pages, (text) => text === whole);
  for (const page of pages) await page.getByRole("button", { name: "Done" }).click();
  await world.onDisk(NOTE, (text) => text === whole);
  await look(world, pages[0], NOTE, "h");
  const rows = pages[0].locator(".timeline li");
  await until(() => rows.count(), (count) => count >= 2);
  assert.match((await rows.first().textContent()) ?? "", /edit|wrote|changed/i);
  const second = `${world.root}/second`;
  world.run(["join", `${world.origin}/vault#${world.invite()}`, second, "--yes"], { home: "other" });
  world.run(["-C", second, "sync"], { home: "other" });
  assert.equal(world.read(NOTE, second), whole);
}));

test("who may only read sees the text and the carets, and cannot write", story(async (world) => {
  const writer = await person(world);
  const reader = await person(world, { code: world.invite("--read-only") });
  await edit(world, writer, NOTE);
  await edit(world, reader, NOTE);
  assert.equal(await state(reader, Boolean), "Read only");
  await cursor(writer, "start");
  await writer.keyboard.type("seen ");
  await both([reader], (text) => text === `seen ${TEXT}`);
  await reader.locator(".cm-content .caret").first().waitFor({ state: "attached" });
  await reader.locator(".cm-content").click();
  await reader.keyboard.type("not this");
  await writer.keyboard.type("too ");
  await both([reader, writer], (text) => text === `seen too ${TEXT}`);
  await world.onDisk(NOTE, (text) => text === `seen too ${TEXT}`);
}));

test("a token revoked meanwhile ends the writing, and the text stays in the page", story(async (world) => {
  const page = await person(world);
  await edit(world, page, NOTE);
  const device = await page.evaluate(() => localStorage.getItem("crucible.device")) ?? "";
  await cursor(page, "start");
  await page.keyboard.type("kept ");
  await saved(page);
  world.run(["-C", world.folder, "auth", "revoke", device, "--yes"]);
  await state(page, (said) => said.startsWith("You were signed out"));
  assert.equal(await textIn(page), `kept ${TEXT}`);
  await page.getByRole("button", { name: "Copy the text" }).waitFor();
}));

test("what is typed right before one leaves is saved", story(async (world) => {
  const page = await person(world);
  // The session is there only once the editor is not.
  let answer = () => {};
  await page.route("**/api/sessions", async (route) => {
    if (route.request().method() === "POST") await new Promise((go) => { answer = () => go(undefined); });
    await route.continue();
  });
  for (const letter of ["x", "y"]) {
    await page.goto(`${world.origin}/#/v/vault/n/${NOTE}`);
    await page.locator("article.markdown").waitFor();
    await page.keyboard.press("e");
    await page.locator(".cm-content").waitFor();
    await page.keyboard.type(letter);
    await page.evaluate(() => { location.hash = "#/v/vault/activity"; });
    await page.locator(".cm-content").waitFor({ state: "detached" });
    answer();
    await world.onDisk(NOTE, (text) => text.includes(letter));
  }
  await look(world, page, NOTE);
  await page.locator("article.markdown").getByText(/y/).first().waitFor();
  assert.equal(await page.getByText(/not saved yet/).count(), 0);
}));

test("letters typed after “New note” go into the note, and nowhere else", story(async (world) => {
  const page = await person(world);
  await page.getByRole("button", { name: "New note" }).click();
  await page.keyboard.type("Plan");
  await page.keyboard.press("Enter");
  await page.keyboard.type("no one / every ? n ", { delay: 2 });
  await saved(page);
  await page.keyboard.type("more");
  await world.onDisk("Plan.md", (text) => text === "no one / every ? n more");
  assert.equal(await page.locator("dialog[open]").count(), 0);
  await page.keyboard.press("Escape");
  await page.locator("article.markdown").getByText("no one").waitFor();
  await page.getByRole("tree").focus();
  await page.keyboard.press("e");
  await page.keyboard.type("nn ", { delay: 2 });
  await saved(page);
  await world.onDisk("Plan.md", (text) => text.startsWith("nn "));
  await page.getByRole("button", { name: "Done" }).focus();
  await page.keyboard.type("n?");
  assert.equal(await page.locator("dialog[open]").count(), 0);
  await page.keyboard.press("Escape");
  await page.locator("article.markdown").waitFor();
}));

test("a note renamed while one types in it: caret, undo and place stay", story(async (world) => {
  const [anna, bert] = await two(world);
  await cursor(bert, "end");
  await bert.keyboard.type("eg");
  await saved(bert);
  await bert.evaluate(() => { document.querySelector(".cm-content").dataset.same = "yes"; });
  await anna.keyboard.press("Escape");
  await anna.getByRole("button", { name: "More" }).click();
  await anna.getByRole("menuitem", { name: /Rename/ }).click();
  await anna.getByRole("textbox").fill("Lists/Groceries.md");
  await anna.getByRole("button", { name: "Rename", exact: true }).click();
  await until(() => bert.url(), (url) => /Groceries\.md\?edit$/.test(url));
  await bert.keyboard.type("gs");
  await until(() => textIn(bert), (text) => text === `${TEXT}eggs`);
  assert.equal(await bert.locator(".cm-content[data-same=yes]").count(), 1, "the same editor");
  assert.match(await bert.locator(".bar h1").textContent(), /Groceries/);
  await world.onDisk("Lists/Groceries.md", (text) => text === `${TEXT}eggs`);
  // One step where it all went within half a second, two where it did not.
  await bert.keyboard.press("Control+z");
  await until(() => textIn(bert), (text) => text !== `${TEXT}eggs`);
  if (await textIn(bert) !== TEXT) await bert.keyboard.press("Control+z");
  await until(() => textIn(bert), (text) => text === TEXT);
  await bert.keyboard.press("Escape");
  await until(() => bert.url(), (url) => /n\/Lists\/Groceries\.md$/.test(url));
}));

test("words of a note that was renamed meanwhile go with it, not into another at its path", story(async (world) => {
  const page = await person(world);
  await edit(world, page, NOTE);
  await cursor(page, "end");
  await page.context().setOffline(true);
  await state(page, (said) => said.startsWith("Offline"));
  await page.keyboard.type("SECRET");
  await world.kill();
  await world.up();
  world.run(["-C", world.folder, "live", NOTE, "--end"], { codes: [0, 1, 2, 3] });
  renameSync(`${world.folder}/${NOTE}`, `${world.folder}/Moved.md`);
  const other = await person(world);
  await other.getByRole("treeitem", { name: "Moved" }).waitFor();
  world.write(NOTE, "# Letter to my boss\n");
  await other.getByRole("treeitem", { name: "Shopping" }).waitFor();
  await page.context().setOffline(false);
  await world.onDisk("Moved.md", (text) => text === `${TEXT}SECRET`);
  await saved(page);
  assert.equal(world.read(NOTE), "# Letter to my boss\n");
  await until(() => page.url(), (url) => /Moved\.md\?edit$/.test(url));
}));

test("words whose note is gone are kept in sight until they are saved elsewhere", story(async (world) => {
  const [anna, bert, other] = [await person(world), await person(world), await person(world)];
  for (const page of [anna, bert]) {
    await edit(world, page, NOTE);
    await cursor(page, "end");
  }
  for (const page of [anna, bert]) await page.context().setOffline(true);
  for (const page of [anna, bert]) await state(page, (said) => said.startsWith("Offline"));
  await anna.keyboard.type("from Anna");
  await bert.keyboard.type("from Bert");
  await world.kill();
  await world.up();
  world.run(["-C", world.folder, "live", NOTE, "--end"], { codes: [0, 1, 2, 3] });
  rmSync(`${world.folder}/${NOTE}`);
  await other.getByRole("treeitem", { name: "Shopping" }).waitFor({ state: "detached" });
  for (const page of [anna, bert]) await page.context().setOffline(false);
  for (const page of [anna, bert]) await state(page, (said) => said === "The note is gone; your text is kept here");
  await anna.getByRole("button", { name: "Save as a new note" }).click();
  await anna.getByRole("textbox", { name: /^Name/ }).fill("Annas");
  await anna.getByRole("button", { name: "Save", exact: true }).click();
  await world.onDisk("Annas.md", (text) => text === `${TEXT}from Anna`);
  await saved(anna);
  await bert.getByRole("button", { name: "Done" }).click();
  await bert.getByText("There is no note of this name").waitFor();
  await bert.getByText(/is gone\. What you wrote in it last/).waitFor();
  await bert.reload();
  await bert.getByRole("button", { name: "Save as a new note" }).click();
  await bert.getByRole("textbox", { name: /^Name/ }).fill("Berts");
  await bert.getByRole("button", { name: "Save", exact: true }).click();
  await world.onDisk("Berts.md", (text) => text === `${TEXT}from Bert`);
  for (const page of [anna, bert]) {
    await page.goto(`${world.origin}/#/v/vault`);
    await page.getByText("Changed last").waitFor();
    assert.deepEqual(await page.evaluate(() => new Promise((done) => {
      const request = indexedDB.open("crucible");
      request.onsuccess = () => {
        const all = request.result.transaction("drafts").objectStore("drafts").getAll();
        all.onsuccess = () => done(all.result.map(({ path }) => path));
      };
    })), []);
  }
}));

test("the caret begins behind the frontmatter", story(async (world) => {
  const page = await person(world);
  await look(world, page, NOTE);
  await page.locator("article.markdown").waitFor();
  await page.keyboard.press("e");
  await saved(page);
  await page.keyboard.type("here ");
  await world.onDisk(NOTE, (text) => text === "---\ntags: [a]\n---\nhere # Shopping\n");
  assert.equal(await page.locator(".head-line").count(), 3);
}, { [NOTE]: "---\ntags: [a]\n---\n# Shopping\n" }));
