// Pictures of every view, for people to look at: `CRU=… node test/browser/shots.mjs FOLDER`.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { World, closeChrome, cursor, edit, look, person, saved } from "./kit.mjs";

const folder = process.argv[2];
if (!folder) throw new Error("which folder?");
mkdirSync(folder, { recursive: true });

const LOOKS = {
  "wide-light": { viewport: { width: 1200, height: 760 }, colorScheme: "light" },
  "wide-dark": { viewport: { width: 1200, height: 760 }, colorScheme: "dark" },
  "narrow-light": { viewport: { width: 390, height: 780 }, colorScheme: "light" },
  "narrow-dark": { viewport: { width: 390, height: 780 }, colorScheme: "dark" },
};

const FILES = {
  "Welcome.md": "---\ntitle: Welcome\ntags: [start, boat]\n---\n# Welcome\n\nWhat is going on: [[Projects/Boat]] and [[Garden plan]].\n\n- [x] sand the hull\n- [ ] paint it\n\n| what | when |\n|---|---|\n| launch | April |\n\n> The palest ink is better than the best memory.[^1]\n\n[^1]: A proverb, they say.\n",
  "Projects/Costs.csv": "what,when,euro\nvarnish,March,84.50\nsheets,April,120\n",
  "Projects/Boat.md": "# The boat\n\nThe hull is sound. The mast is not.\n\n## To do\n\n- varnish\n- new sheets\n- ask [[People/Marta]] about the trailer\n",
  "Projects/Garden plan.md": "# Garden plan\n\nBeans along the wall.\n",
  "People/Marta.md": "# Marta\n\nHas a trailer. See [[Projects/Boat]].\n",
  "Recipes/Sourdough.md": "# Sourdough\n\n500 g flour, 350 g water, 10 g salt.\n",
};

/** A world of its own for each look: what one writes is in no other's pictures. @param {string} name @param {any} options */
async function pictures(name, options) {
  const world = await new World(FILES).up();
  const second = `${world.root}/second`;
  world.run(["join", `${world.origin}/vault#${world.invite()}`, second, "--yes"], { home: "other" });
  world.write("Projects/Garden plan.md", "# Garden plan\n\nPeas along the wall.\n", second);
  world.write("Projects/Garden plan.md", "# Garden plan\n\nTomatoes along the wall.\n");
  const other = await person(world);
  await look(world, other, "Projects/Garden plan.md");
  await other.getByText("Tomatoes along").waitFor();
  world.run(["-C", second, "sync"], { home: "other", codes: [0, 3] });
  const boat = world.read("Projects/Boat.md").replace("sound", "sound now");
  world.write("Projects/Boat.md", boat);
  world.run(["-C", second, "sync"], { home: "other", codes: [0, 3] });
  await edit(world, other, "Projects/Boat.md");
  await cursor(other, "start");
  for (const key of ["ArrowDown", "ArrowDown", "End"]) await other.keyboard.press(key);
  const page = await person(world, options);
  const shot = async (what) => {
    await page.evaluate(() => document.fonts.ready);
    await page.screenshot({ path: join(folder, `${what}-${name}.png`) });
  };
  await page.goto(`${world.origin}/#/`);
  await page.locator(".card").waitFor();
  await shot("vaults");
  await page.goto(`${world.origin}/#/v/vault`);
  await page.getByText("Changed last").waitFor();
  await shot("home");
  await look(world, page, "Welcome.md");
  await page.getByText("palest").waitFor();
  await shot("note");
  await look(world, page, "Projects/Costs.csv");
  await page.getByText("varnish").waitFor();
  await shot("file");
  await edit(world, page, "Projects/Boat.md");
  await cursor(page, "start");
  await page.keyboard.press("End");
  await page.keyboard.type(" of ours");
  await other.keyboard.type(" Marta has a spare one", { delay: 20 });
  await page.locator(".cm-content .caret.typing").first().waitFor({ state: "attached" });
  await saved(page);
  await shot("writing");
  await page.keyboard.press("Escape");
  await look(world, page, "Projects/Boat.md", "h");
  await page.locator(".history-what .compare ins", { hasText: "spare one" }).waitFor();
  await shot("history");
  for (const view of ["conflicts", "deleted", "activity"]) {
    await page.goto(`${world.origin}/#/v/vault/${view}`);
    await page.locator(".column .lines, .column .empty").first().waitFor();
    if (view === "conflicts") await page.locator(".side-words mark").first().waitFor();
    await shot(view);
    if (view === "conflicts") {
      await page.locator(".lines a").first().click();
      await page.locator(".one-side").first().waitFor();
      await shot("conflict");
    }
  }
  await page.goto(`${world.origin}/#/devices`);
  await page.getByText("this one").waitFor();
  await shot("devices");
  await page.getByRole("button", { name: "Invite a device" }).click();
  await page.getByRole("button", { name: "Show the code" }).click();
  await page.locator("pre.line").waitFor();
  await shot("invite");
  await look(world, page, "Welcome.md");
  await page.getByText("palest").waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("boat");
  await page.locator(".entries [role=option]").first().waitFor();
  await page.locator(".palette [role=status]:empty").waitFor({ state: "attached" });
  await shot("search");
  await page.evaluate(() => localStorage.removeItem("crucible.token"));
  await page.reload();
  await page.getByLabel("Pairing code").fill("7K2M-9QXB");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  await shot("sign-in");
  await world.end();
}

for (const [name, options] of Object.entries(LOOKS)) await pictures(name, options);
await closeChrome();
process.exit(0);
