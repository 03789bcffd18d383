// The vault on the page: history, conflicts, devices, and strangers' text.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { World, closeChrome, look, person, until } from "./kit.mjs";

/** @param {Record<string, string>} files @param {(world: World) => Promise<void>} told */
const story = (files, told) => async () => {
  const world = await new World(files).up();
  try {
    await told(world);
  } catch (error) {
    throw Object.assign(error, { message: `${error.message}\nthe server said:\n${world.log}` });
  } finally {
    await world.end();
  }
};

after(closeChrome);

test("an older version is seen and restored", story({ "a.md": "first\n" }, async (world) => {
  const page = await person(world);
  await look(world, page, "a.md");
  await page.locator("article.markdown").getByText("first").waitFor();
  world.write("a.md", "second\n");
  await page.locator("article.markdown").getByText("second").waitFor();
  await look(world, page, "a.md", "h");
  const rows = page.locator(".timeline button");
  await until(() => rows.count(), (count) => count === 2);
  await page.locator(".slider input").focus();
  await page.keyboard.press("Home");
  await page.locator(".history-what").getByText("first").waitFor();
  await page.getByRole("button", { name: "Restore this" }).click();
  await world.onDisk("a.md", (text) => text === "first\n");
  await look(world, page, "a.md", "h");
  await until(() => rows.count(), (count) => count === 3);
}));

test("the losing side of a conflict is taken, and undone", story({ "a.md": "the word is zero\n" }, async (world) => {
  const second = `${world.root}/second`;
  world.run(["join", `${world.origin}/vault#${world.invite()}`, second, "--yes"], { home: "other" });
  world.write("a.md", "the word is two\n", second);
  world.write("a.md", "the word is one\n");
  const page = await person(world);
  await look(world, page, "a.md");
  await page.locator("article.markdown").getByText("the word is one").waitFor();
  world.run(["-C", second, "sync"], { home: "other", codes: [3] });
  const kept = world.read("a.md", second);
  const other = kept.includes("one") ? "the word is two\n" : "the word is one\n";
  await world.onDisk("a.md", (text) => text === kept);
  await page.goto(`${world.origin}/#/v/vault/conflicts`);
  await page.locator(".lines a").first().click();
  await page.getByRole("button", { name: "Take this instead" }).click();
  await world.onDisk("a.md", (text) => text === other);
  await page.getByRole("button", { name: "Undo" }).click();
  await world.onDisk("a.md", (text) => text === kept);
  await page.goto(`${world.origin}/#/v/vault/conflicts`);
  await page.getByText("No conflicts").waitFor();
}));

test("a second device is paired by the line that is shown", story({ "a.md": "text\n" }, async (world) => {
  const page = await person(world);
  await page.goto(`${world.origin}/#/devices`);
  await page.getByRole("button", { name: "Invite a device" }).click();
  await page.getByRole("button", { name: "Show the code" }).click();
  const line = (await page.locator("pre.line").textContent()) ?? "";
  assert.match(line, /^cru join http:\/\/127\.0\.0\.1:\d+\/vault#/);
  assert.ok(await page.getByRole("img", { name: /QR code/ }).isVisible());
  const second = `${world.root}/second`;
  world.run([...line.split(" ").slice(1), second, "--yes"], { home: "other" });
  assert.equal(world.read("a.md", second), "text\n");
}));

const SCRIPT = "<script>window.broken = 1</script><img src=x onerror=\"window.broken = 2\">";

test("script in a note, in its name and in its properties is shown as text", story({
  "a.md": `---\ntitle: ${JSON.stringify(SCRIPT)}\ntags: [${JSON.stringify(SCRIPT)}]\n---\n# Seen\n\n${SCRIPT}\n\n[x](javascript:window.broken=3)\n\n[[b]]\n`,
  "<img src=x onerror='window.broken=4'>.md": "[[a]] end\n",
}, async (world) => {
  const page = await person(world);
  const violations = [];
  page.on("console", (message) => {
    if (/Content Security Policy/.test(message.text())) violations.push(message.text());
  });
  for (const path of ["a.md", "<img src=x onerror='window.broken=4'>.md"]) {
    await look(world, page, path);
    await page.locator("article.markdown").getByText(path === "a.md" ? "Seen" : "end").waitFor();
    await look(world, page, path, "h");
    await page.locator(".timeline button").first().waitFor();
  }
  await look(world, page, "a.md");
  await page.locator(".backlinks").getByText("end").waitFor();
  await page.locator("article.markdown a", { hasText: "x" }).first().click().catch(() => {});
  assert.equal(await page.evaluate(() => /** @type {any} */ (window).broken), undefined);
  assert.deepEqual(violations, [], "nothing came as far as the policy");
}));

test("an edit on disk is seen in the tree and in the note by itself", story({ "a.md": "text\n" }, async (world) => {
  const page = await person(world);
  await look(world, page, "a.md");
  await page.locator("article.markdown").getByText("text").waitFor();
  world.write("New one.md", "fresh\n");
  world.write("a.md", "other words\n");
  await page.getByRole("treeitem", { name: /New one/ }).waitFor();
  await page.locator("article.markdown").getByText("other words").waitFor();
}));
