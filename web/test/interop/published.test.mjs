// The published client, unmodified, in a session of the real server: both sides end with the same
// version of the document. (That client offers no subprotocol; a server of ours takes the token
// from there, so the WebSocket it is given offers it.)

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { isDeepStrictEqual } from "node:util";

import { LoroAdaptor } from "loro-adaptors/loro";
import { LoroWebsocketClient } from "loro-websocket";
import { LoroDoc } from "loro-crdt";
import WebSocket from "ws";

import { World, closeChrome, until } from "../browser/kit.mjs";

const clients = [];
after(async () => {
  clients.forEach((client) => client.destroy?.() ?? client.close());
  await closeChrome();
});

/** @param {World} world */
async function signIn(world, name) {
  const device = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex");
  const answer = await fetch(`${world.origin}/api/auth/pair`, {
    method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ code: world.invite(), device, name }),
  });
  assert.ok(answer.ok, await answer.clone().text());
  return (await answer.json()).token;
}

async function join(world, session, token) {
  globalThis.WebSocket = /** @type {any} */ (class extends WebSocket {
    constructor(/** @type {string} */ url) {
      super(url, ["loro.v1", `bearer.${token.replace(/=+$/, "")}`]);
    }
  });
  const client = new LoroWebsocketClient({ url: `${world.origin.replace("http", "ws")}/api/sessions/${session}/ws` });
  clients.push(client);
  await client.waitConnected();
  const doc = new LoroDoc();
  const room = await client.join({ roomId: session, crdtAdaptor: new LoroAdaptor(doc) });
  await room.waitForReachingServerVersion();
  return { client, doc, room };
}

const text = (one) => one.doc.getText("text").toString();
const version = (one) => Object.fromEntries(one.doc.oplogVersion().toJSON());

test("the published client reads, writes and ends with the server's version", async () => {
  const world = await new World({ "a.md": "text\n" }).up();
  try {
    const token = await signIn(world, "published");
    const opened = await fetch(`${world.origin}/api/sessions`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      body: JSON.stringify({ vault: "vault", path: "a.md" }),
    });
    assert.equal(opened.status, 201);
    const { id } = await opened.json();
    const [one, other] = [await join(world, id, token), await join(world, id, token)];
    assert.equal(text(one), "text\n");
    for (let n = 0; n < 50; n += 1) {
      for (const [page, mark] of [[one, "a"], [other, "b"]]) {
        page.doc.getText("text").insert(mark === "a" ? 0 : page.doc.getText("text").length, `${mark}${n} `);
        page.doc.commit();
      }
      if (n % 10 === 0) await new Promise((go) => setImmediate(go));
    }
    // A large one travels in fragments.
    one.doc.getText("text").insert(0, "x".repeat(600_000));
    one.doc.commit();
    await until(() => text(one) === text(other));
    // What a third one is given is what the server has.
    const third = await join(world, id, token);
    await until(() => text(third) === text(one));
    await until(() => isDeepStrictEqual(version(third), version(one))
      || [version(third), version(one)], (same) => same === true, "versions");
    assert.deepEqual(version(third), version(one));
    assert.deepEqual(version(other), version(one));
    const told = await fetch(`${world.origin}/api/sessions/${id}/text`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    assert.equal(await told.text(), text(one));
    await world.onDisk("a.md", (file) => file === text(one));
  } finally {
    await world.end();
  }
});
