// The page in headless Chromium: how soon a note can be written, and what a typed character costs.
//
// node page.mjs; prints one line of JSON. CRU names the binary, CHROMIUM the browser.

import { World, closeChrome, cursor, person, saved, until } from "../../web/test/browser/kit.mjs";

const OPENINGS = 5;
const TYPED = 120;
/** Between two keys, on average: 100 words a minute. */
const KEY_MS = 120;

const line = "A line of a note, as long as such lines are, with a [[link]] and some `code` in it.\n";
const large = `# A large note\n\n${line.repeat(Math.ceil(100_000 / line.length))}`;

const world = await new World({ "large.md": large, "typed.md": "# Note\n\n" }).up();
try {
  const page = await person(world);
  const { origin } = world;
  const context = page.context();
  // Asked with every picture: the editor is there, shows the note and takes keys.
  await context.addInitScript(() => {
    const look = () => {
      const content = document.querySelector(".cm-content");
      const open = content && !content.hasAttribute("aria-readonly")
        && content.querySelector(".cm-line")?.textContent;
      if (open) globalThis.editableAt = performance.now();
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  });
  const open = async (/** @type {string} */ path, cold = false) => {
    const fresh = await context.newPage();
    const tools = await context.newCDPSession(fresh);
    await tools.send("Network.enable");
    if (cold) await tools.send("Network.clearBrowserCache");
    await fresh.goto(`${origin}/#/v/vault/n/${path}?edit`);
    const at = await until(() => fresh.evaluate(() => globalThis.editableAt ?? 0), Boolean, "open");
    return { fresh, tools, at };
  };
  await page.goto("about:blank");
  const times = { cold: [], warm: [] };
  for (let turn = 0; turn < OPENINGS; turn += 1) {
    for (const kind of ["cold", "warm"]) {
      const { fresh, at } = await open("large.md", kind === "cold");
      times[kind].push(at);
      await fresh.close();
    }
  }

  const { fresh, tools } = await open("typed.md");
  await saved(fresh);
  await cursor(fresh, "end");
  await saved(fresh);
  const up = { edits: 0, all: 0 };
  tools.on("Network.webSocketFrameSent", ({ response }) => {
    const frame = Buffer.from(response.payloadData, response.opcode === 2 ? "base64" : "utf8");
    // Two bytes of head and four of mask; longer ones have two more.
    const bytes = frame.length + (frame.length < 126 ? 6 : 8);
    up.all += bytes;
    // `%LOR`: the document. `%EPH`: where the caret is.
    if (frame.subarray(0, 4).toString() === "%LOR") up.edits += bytes;
  });
  const text = "the quick brown fox jumps over the lazy dog and ".repeat(3).slice(0, TYPED);
  for (const [at, key] of Array.from(text).entries()) {
    await fresh.keyboard.type(key);
    // People are no clocks.
    await new Promise((go) => setTimeout(go, KEY_MS * (0.6 + 0.8 * ((at * 0.618) % 1))));
  }
  await saved(fresh);
  console.log(JSON.stringify({
    cold_ms: times.cold,
    warm_ms: times.warm,
    edits_per_char: up.edits / TYPED,
    all_per_char: up.all / TYPED,
    bytes: large.length,
  }));
} finally {
  await closeChrome();
  await world.end();
}
