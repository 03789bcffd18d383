// The vault on the page: history, conflicts, devices, and strangers' text.

import assert from "node:assert/strict";
import { renameSync, rmSync } from "node:fs";
import { after, test } from "node:test";

import { World, closeChrome, cursor, edit, look, person, saved, state, story, until } from "./kit.mjs";

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

test("a version that was chosen stays chosen while others write, who are told of before it is restored", story({
  "a.md": "first\n",
}, async (world) => {
  const [anna, bert] = [await person(world), await person(world)];
  await look(world, anna, "a.md");
  await anna.locator("article.markdown").getByText("first").waitFor();
  world.write("a.md", "second\n");
  await anna.locator("article.markdown").getByText("second").waitFor();
  await look(world, anna, "a.md", "h");
  const rows = anna.locator(".timeline button");
  await until(() => rows.count(), (count) => count === 2);
  await rows.nth(1).click();
  await anna.locator(".history-what").getByText("first").waitFor();
  await edit(world, bert, "a.md");
  await cursor(bert, "end");
  await bert.keyboard.type("third");
  await until(() => rows.count(), (count) => count >= 3);
  await anna.locator(".timeline [aria-current]", { hasText: "created" }).waitFor();
  await anna.locator(".history-what").getByText("first").waitFor();
  await anna.getByRole("button", { name: "Restore this" }).click();
  await anna.locator("dialog").getByText(/is writing in the note/).waitFor();
  await anna.getByRole("button", { name: "Restore", exact: true }).click();
  await world.onDisk("a.md", (text) => text === "first\n");
  await until(() => bert.locator(".cm-content").textContent(), (text) => text === "first");
}));

test("who is taken out of the vault is told so, keeps their words, and comes back", story({ "a.md": "text\n" }, async (world) => {
  const told = world.run(["-C", world.folder, "auth", "add-user", "--email", "bob@example.org", "--json"]);
  const page = await person(world, { code: JSON.parse(told).page.split("#pair=")[1] });
  await edit(world, page, "a.md");
  await cursor(page, "end");
  await page.keyboard.type("saved ");
  await saved(page);
  world.run(["-C", world.folder, "auth", "remove", "bob@example.org"]);
  await state(page, (said) => said.startsWith("You are not a member of this vault"));
  await page.locator(".banner").getByText(/not a member of this vault/).waitFor();
  assert.equal(await page.getByText(/signed out|not heard/).count(), 0);
  assert.match(await page.locator(".cm-content").textContent(), /saved/);
  world.run(["-C", world.folder, "auth", "add", "bob@example.org"]);
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("treeitem", { name: "a" }).waitFor();
  await edit(world, page, "a.md");
}));

test("who signs in again hears of what changes, without reloading the page", story({ "a.md": "text\n" }, async (world) => {
  const page = await person(world);
  await look(world, page, "a.md");
  await page.locator("article.markdown").getByText("text").waitFor();
  const device = await page.evaluate(() => localStorage.getItem("crucible.device")) ?? "";
  world.run(["-C", world.folder, "auth", "revoke", device, "--yes"]);
  await page.keyboard.press("h");
  await page.getByRole("button", { name: "Sign in again" }).click();
  await page.getByLabel("Pairing code").fill(world.invite());
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("treeitem", { name: "a" }).waitFor();
  world.write("b.md", "new\n");
  await page.getByRole("treeitem", { name: "b" }).waitFor();
  assert.equal(await page.getByText(/not heard/).count(), 0);
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
  const line = page.locator(".conflicts li").first();
  await until(() => line.textContent(), (text) => /the word is one/.test(text) && /the word is two/.test(text));
  await until(() => page.locator(".row .dot.conflict").count(), (count) => count === 1);
  await page.locator(".lines a").first().click();
  await page.getByRole("button", { name: "Take this instead" }).click();
  await world.onDisk("a.md", (text) => text === other);
  await page.getByRole("button", { name: "Undo" }).click();
  await world.onDisk("a.md", (text) => text === kept);
  await page.goto(`${world.origin}/#/v/vault/conflicts`);
  await page.getByText("No conflicts").waitFor();
  await until(() => page.locator(".row .dot.conflict").count(), (count) => count === 0);
}));

test("of two names that met one sees the names, and takes the other", story({ "a.md": "text\n" }, async (world) => {
  const second = `${world.root}/second`;
  world.run(["join", `${world.origin}/vault#${world.invite()}`, second, "--yes"], { home: "other" });
  renameSync(`${second}/a.md`, `${second}/two.md`);
  renameSync(`${world.folder}/a.md`, `${world.folder}/one.md`);
  const page = await person(world);
  await page.getByRole("treeitem", { name: "one" }).waitFor();
  world.run(["-C", second, "sync"], { home: "other", codes: [0, 3] });
  await page.goto(`${world.origin}/#/v/vault/conflicts`);
  const line = page.locator(".conflicts li").first();
  await until(() => line.textContent(), (text) => /one\.md/.test(text) && /two\.md/.test(text));
  await page.locator(".lines a").first().click();
  const aside = page.getByRole("region", { name: "What was set aside" });
  const other = (await aside.locator("strong").textContent()) ?? "";
  assert.match(other, /^(one|two)\.md$/);
  assert.equal(await page.getByRole("button", { name: /Take both/ }).count(), 0);
  await page.getByRole("button", { name: "Take this instead" }).click();
  await world.onDisk(other, (text) => text === "text\n");
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
  await page.getByText(/is in\. The code is used up/).waitFor();
}));

test("an invitation names an address that others reach, or says that there is none", story({ "a.md": "text\n" }, async (world) => {
  const page = await person(world, { viewport: { width: 390, height: 780 } });
  let known = {};
  await page.route("**/api/auth/invite", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...await response.json(), listens_on: "0.0.0.0:1", ...known } });
  });
  await page.goto(`${world.origin}/#/devices`);
  const invite = async () => {
    await page.getByRole("button", { name: "Invite a device" }).click();
    await page.getByRole("button", { name: "Show the code" }).click();
    return page.locator("pre.line").textContent();
  };
  assert.match(await invite(), /^cru join http:\/\/127\.0\.0\.1/);
  await page.getByText("This address works on this machine alone").waitFor();
  for (const button of await page.locator("dialog .buttons button").all()) {
    const { x, width } = await button.boundingBox();
    assert.ok(x >= 0 && x + width <= 390, "no button is cut");
  }
  await page.getByRole("button", { name: "Done" }).click();
  known = { url_for_others: "http://192.168.1.5:9000/" };
  assert.match(await invite(), /^cru join http:\/\/192\.168\.1\.5:9000\/vault#/);
  await page.locator(".url").getByText("http://192.168.1.5:9000").waitFor();
  assert.equal(await page.locator("dialog .notice").count(), 0);
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

test("a note that is renamed or deleted while one reads it", story({ "a.md": "text\n", "b.md": "more\n" }, async (world) => {
  const page = await person(world);
  await look(world, page, "a.md");
  await page.locator("article.markdown").getByText("text").waitFor();
  renameSync(`${world.folder}/a.md`, `${world.folder}/c.md`);
  await until(() => page.url(), (url) => /\/c\.md$/.test(url));
  await page.locator("article.markdown").getByText("text").waitFor();
  rmSync(`${world.folder}/c.md`);
  await page.getByText("There is no note of this name").waitFor();
  await page.getByRole("button", { name: "Restore it" }).click();
  await page.locator("article.markdown").getByText("text").waitFor();
  await world.onDisk("c.md", (text) => text === "text\n");
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

test("looking for words makes no note, and says what it does", story({ "a.md": "the mast\n", "mastiff.png": "x" }, async (world) => {
  const page = await person(world);
  let answer = () => {};
  await page.route("**/search?*", async (route) => {
    await new Promise((go) => { answer = go; });
    await route.continue();
  });
  await page.keyboard.press("/");
  await page.keyboard.type("quarterdeck");
  const says = page.locator(".palette [role=status]");
  await until(() => says.textContent(), (text) => text === "Searching…");
  await page.keyboard.press("Enter");
  await until(() => { answer(); return says.textContent(); }, (text) => text === "Nothing found.");
  await page.keyboard.press("Enter");
  assert.equal(await page.getByRole("option", { name: /New note/ }).getAttribute("aria-selected"), "false");
  await page.getByRole("combobox").fill("mast");
  await until(() => { answer(); return page.getByRole("option").allTextContents(); },
    (all) => /^a/.test(all[0] ?? "") && /mastiff/.test(all[1] ?? ""));
  await page.getByRole("combobox").fill("quarterdeck");
  await until(() => { answer(); return says.textContent(); }, (text) => text === "Nothing found.");
  await page.keyboard.press("Escape");
  assert.equal(await page.getByRole("treeitem").count(), 2);
  await page.keyboard.press("/");
  await page.keyboard.type("keel");
  await page.keyboard.press("ArrowDown");
  await until(() => { answer(); return says.textContent(); }, (text) => text === "Nothing found.");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await world.onDisk("keel.md", () => true);
}));

test("who types before the vault is there finds words all the same", story({ "a.md": "the mast\n" }, async (world) => {
  const page = await person(world);
  let answer = () => {};
  const held = new Promise((go) => { answer = () => go(undefined); });
  await page.route("**/api/vaults/vault", async (route) => {
    await held;
    await route.continue();
  });
  await page.reload();
  await page.getByLabel("Vault pages").waitFor({ state: "attached" });
  await page.keyboard.press("/");
  await page.keyboard.type("mast");
  const says = page.locator(".palette [role=status]");
  await until(() => says.textContent(), (text) => text === "Searching…");
  answer();
  await until(() => page.getByRole("option").allTextContents(), (all) => /the mast/.test(all[0] ?? ""));
}));

const MANY = Object.fromEntries(Array.from({ length: 80 }, (_, n) => [`n${n}.md`, `note ${n}\n`]));

test("the first click in a scrolled tree opens what was clicked", story(MANY, async (world) => {
  const page = await person(world);
  const tree = page.getByRole("tree");
  await page.getByRole("treeitem", { name: "n0", exact: true }).waitFor();
  await tree.evaluate((box) => { box.scrollTop = 1500; });
  await page.getByRole("treeitem", { name: "n50", exact: true }).waitFor();
  const box = await page.getByRole("treeitem", { name: "n50", exact: true }).boundingBox();
  await page.mouse.click(box.x + 60, box.y + 10);
  await until(() => page.url(), (url) => /n50\.md$/.test(url));
  await page.locator("article.markdown").getByText("note 50").waitFor();
}));

const PIXEL = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");

test("what the server did not answer is there when it is back", story({ "a.md": "first\n", "b.md": "second\n\n![](p.png)\n" }, async (world) => {
  world.write("p.png", PIXEL);
  const page = await person(world);
  await page.getByRole("treeitem", { name: "p.png" }).waitFor();
  await page.route("**/file?path=p.png", (route) => route.abort());
  await look(world, page, "b.md");
  await page.getByText(/p\.png: The server does not answer/).waitFor();
  await page.unroute("**/file?path=p.png");
  await page.locator("img.asset[src]").waitFor();
  await world.kill();
  await page.getByText("The server is not heard").waitFor();
  await page.getByRole("treeitem", { name: "a", exact: true }).click();
  await page.getByText("The server does not answer").waitFor();
  await world.up();
  await page.locator("article.markdown").getByText("first").waitFor();
  assert.equal(await page.getByText("The server does not answer").count(), 0);
}));

test("who deletes a note that somebody writes in is told that it was kept", story({ "a.md": "text\n" }, async (world) => {
  const [writer, other] = [await person(world), await person(world)];
  await look(world, other, "a.md");
  await edit(world, writer, "a.md");
  await cursor(writer, "start");
  await writer.keyboard.type("one ");
  await saved(writer);
  await other.locator(".bar .state").getByText("writing here").waitFor();
  await other.locator("article.markdown").getByText("one text").waitFor();
  await other.getByRole("button", { name: "More" }).click();
  await other.getByRole("menuitem", { name: /Delete/ }).click();
  await other.locator("dialog").getByText(/is writing in it/).waitFor();
  await other.getByRole("button", { name: "Delete", exact: true }).click();
  await other.getByText("a is deleted.").waitFor();
  await writer.keyboard.type("two ");
  await other.getByText(/a was kept: .* is writing in it/).waitFor();
}));

test("a session with nobody in it is nobody writing", story({ "a.md": "text\n" }, async (world) => {
  const [writer, other] = [await person(world), await person(world, { code: world.invite("--read-only") })];
  await edit(world, writer, "a.md");
  await look(world, other, "a.md");
  await other.getByRole("button", { name: "Watch live" }).waitFor();
  await writer.keyboard.press("Escape");
  await until(() => other.locator(".bar .state, .bar .main").count(), (count) => count === 0);
  await look(world, writer, "a.md");
  await writer.getByRole("button", { name: "Edit" }).waitFor();
}));

test("who writes alone is told so, and with others who they are", story({ "a.md": "text\n" }, async (world) => {
  const [mine, theirs] = [await person(world), await person(world)];
  await edit(world, mine, "a.md");
  const home = await mine.context().newPage();
  await home.goto(`${world.origin}/#/v/vault`);
  const line = home.locator("section", { hasText: "Being written now" }).locator("li");
  await until(() => line.allTextContents(), ([text]) => /^a\s*only you$/.test(text ?? ""));
  assert.equal(await line.locator(".dot.live").count(), 0);
  await edit(world, theirs, "a.md");
  await until(() => line.allTextContents(), ([text]) => / and you$/.test(text ?? ""));
  assert.equal(await line.locator(".dot.live").count(), 1);
  await mine.keyboard.press("Escape");
  await until(() => line.allTextContents(), ([text]) => !/you/.test(text ?? "you"));
}));

test("a device that may only read is offered nothing that it cannot do", story({ "a.md": "text\n" }, async (world) => {
  await person(world);
  const page = await person(world, { code: world.invite("--read-only") });
  await page.goto(`${world.origin}/#/devices`);
  await page.getByText("this one").waitFor();
  assert.equal(await page.getByRole("button", { name: "Revoke" }).count(), 1, "its own");
  await page.getByRole("link", { name: "Back to the notes" }).click();
  await until(() => page.url(), (url) => /#\/v\/vault/.test(url));
}));

test("a pairing address is taken by a page that asks for one, whatever token it holds", story({ "a.md": "text\n" }, async (world) => {
  const page = await person(world);
  await page.evaluate(() => localStorage.setItem("crucible.token", "x".repeat(43)));
  await page.reload();
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  await until(() => page.evaluate(() => document.activeElement?.className), (name) => name === "code");
  const code = world.invite();
  await page.evaluate((to) => { location.hash = `#pair=${to}`; }, code);
  await until(() => page.getByLabel("Pairing code").inputValue(), (value) => value === code);
  await until(() => page.evaluate(() => document.activeElement?.textContent), (text) => text === "Sign in");
  assert.equal(await page.getByText(/Stay signed in/).count(), 0);
  await page.keyboard.press("Enter");
  await page.getByLabel("Vault pages").waitFor();
  await page.evaluate((to) => { location.hash = `#pair=${to}`; }, world.invite());
  await page.getByRole("button", { name: /Stay signed in as/ }).click();
  await page.getByRole("link", { name: "Devices" }).waitFor();
}));

test("names are asked for without reproach, and words run their own way", story({ "a.md": "# سلام\n\nabc\n\n- [x] done\n" }, async (world) => {
  const page = await person(world);
  await look(world, page, "a.md");
  await page.locator("h1[dir=auto]").waitFor();
  assert.equal(await page.locator("article h1").evaluate((one) => getComputedStyle(one).direction), "rtl");
  await page.getByRole("button", { name: "More" }).click();
  await page.getByRole("menuitem", { name: /Rename/ }).click();
  assert.equal((await page.locator("dialog .wrong").textContent())?.trim(), "");
  await page.keyboard.press("Escape");
  await page.keyboard.press("e");
  await saved(page);
  const directions = await page.locator(".cm-line").evaluateAll((all) => all.map((one) => getComputedStyle(one).direction));
  assert.deepEqual(directions.slice(0, 3), ["rtl", "ltr", "ltr"]);
}));
