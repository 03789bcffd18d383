// Pictures of every view, for people to look at: `CRU=… node test/browser/shots.mjs FOLDER`.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { World, closeChrome, cursor, edit, look, person, until } from "./kit.mjs";

const folder = process.argv[2];
if (!folder) throw new Error("which folder?");
mkdirSync(folder, { recursive: true });

const world = await new World({
  "Welcome.md": "---\ntitle: Welcome\ntags: [start, boat]\n---\n# Welcome\n\nWhat is going on: [[Projects/Boat]] and [[Garden plan]].\n\n- [x] sand the hull\n- [ ] paint it\n\n| what | when |\n|---|---|\n| launch | April |\n\n> The palest ink is better than the best memory.\n",
  "Projects/Boat.md": "# The boat\n\nThe hull is sound. The mast is not.\n\n## To do\n\n- varnish\n- new sheets\n- ask [[People/Marta]] about the trailer\n",
  "Projects/Garden plan.md": "# Garden plan\n\nBeans along the wall.\n",
  "People/Marta.md": "# Marta\n\nHas a trailer. See [[Projects/Boat]].\n",
  "Recipes/Sourdough.md": "# Sourdough\n\n500 g flour, 350 g water, 10 g salt.\n",
}).up();

const second = `${world.root}/second`;
world.run(["join", `${world.origin}/vault#${world.invite()}`, second, "--yes"], { home: "other" });
world.write("Projects/Garden plan.md", "# Garden plan\n\nPeas along the wall.\n", second);
world.write("Projects/Garden plan.md", "# Garden plan\n\nTomatoes along the wall.\n");
const other = await person(world);
await look(world, other, "Projects/Garden plan.md");
await other.getByText("Tomatoes along").waitFor();
world.run(["-C", second, "sync"], { home: "other", codes: [0, 3] });
world.write("Projects/Boat.md", world.read("Projects/Boat.md").replace("sound", "sound now"));
world.run(["-C", second, "sync"], { home: "other", codes: [0, 3] });

const LOOKS = {
  "wide-light": { viewport: { width: 1200, height: 760 }, colorScheme: "light" },
  "wide-dark": { viewport: { width: 1200, height: 760 }, colorScheme: "dark" },
  "narrow-light": { viewport: { width: 390, height: 780 }, colorScheme: "light" },
  "narrow-dark": { viewport: { width: 390, height: 780 }, colorScheme: "dark" },
};
await edit(world, other, "Projects/Boat.md");
await cursor(other, "end");
for (const [name, options] of Object.entries(LOOKS)) {
  const page = await person(world, options);
  const shot = async (what) => {
    await page.evaluate(() => document.fonts.ready);
    await page.waitForLoadState("networkidle", { timeout: 3_000 }).catch(() => {});
    await page.screenshot({ path: join(folder, `${what}-${name}.png`) });
  };
  await page.goto(`${world.origin}/#/`);
  await shot("vaults");
  await page.goto(`${world.origin}/#/v/vault`);
  await shot("home");
  await look(world, page, "Welcome.md");
  await page.getByText("palest").waitFor();
  await shot("note");
  await edit(world, page, "Projects/Boat.md");
  await cursor(page, "start");
  await page.keyboard.press("End");
  await other.keyboard.type("! ");
  await page.locator(".cm-content .caret").first().waitFor({ state: "attached" });
  await page.keyboard.type(" of ours");
  await shot("writing");
  await page.getByRole("button", { name: "Done" }).click();
  await look(world, page, "Projects/Boat.md", "h");
  await page.locator(".timeline button").first().waitFor();
  await until(() => page.locator(".history-what .compare").count());
  await shot("history");
  for (const view of ["conflicts", "deleted", "activity"]) {
    await page.goto(`${world.origin}/#/v/vault/${view}`);
    await page.locator(".column .lines, .column .empty").first().waitFor();
    await shot(view);
    if (view === "conflicts") {
      await page.locator(".lines a").first().click();
      await page.locator(".one-side").first().waitFor();
      await shot("conflict");
    }
  }
  await page.goto(`${world.origin}/#/devices`);
  await page.getByRole("button", { name: "Invite a device" }).click();
  await page.getByRole("button", { name: "Show the code" }).click();
  await page.locator("pre.line").waitFor();
  await shot("invite");
  await look(world, page, "Welcome.md");
  await page.getByText("palest").waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("boat");
  await page.locator(".entries [role=option]").first().waitFor();
  await shot("search");
  await page.context().close();
}
await closeChrome();
await world.end();
process.exit(0);
