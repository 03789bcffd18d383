import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import "./loro.mjs";
import { CONTAINER } from "../app/live/binding.js";
import { LiveClient } from "../app/live/client.js";
import { memoryShelf } from "../app/live/journal.js";
import { events, eventsLink, withLengths } from "../app/live/link.js";
import { Room } from "./room.mjs";

/** SSE and POST in front of a room, as the server has them. */
const room = new Room("one\n");
const lines = new Map();
let refuse = 0;
const server = createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://here");
  const client = searchParams.get("client");
  assert.match(client, /^[0-9a-f]{32}$/);
  if (request.headers.authorization !== "Bearer good" || refuse) {
    response.writeHead(refuse || 401).end();
  } else if (pathname.endsWith("/events")) {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(": here\n\n");
    let sequence = 0;
    const line = room.connect((frame) => {
      sequence += 1;
      response.write(`id: ${sequence}\ndata: ${Buffer.from(frame).toString("base64")}\n\n`);
    });
    lines.set(client, { line, response });
    request.on("close", () => line.gone());
  } else {
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = Buffer.concat(parts);
    for (let at = 0; at < body.length; ) {
      const length = body.readUInt32BE(at);
      lines.get(client).line.take(new Uint8Array(body.subarray(at + 4, at + 4 + length)));
      at += 4 + length;
    }
    response.writeHead(202).end();
  }
});
let origin = "";
before(async () => {
  await new Promise((ready) => { server.listen(0, "127.0.0.1", ready); });
  origin = `http://127.0.0.1:${server.address().port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

test("a session over events and posts: typed, saved, cut, and on", async () => {
  let wake = () => {};
  const client = new LiveClient({
    id: "one", user: "u", note: "n", vault: "v", path: "a.md", shelf: memoryShelf(),
    frame: (run) => setTimeout(run, 1),
    open: async () => ({ id: room.id, epoch: room.epoch }),
    connect: (id, handlers) => eventsLink({ id, origin, token: "good" }, handlers),
    onState: () => wake(), onDoc: () => {}, onPresence: () => {}, onControl: () => {},
  });
  const until = (isSo) => new Promise((resolve) => {
    wake = () => { if (isSo()) resolve(); };
    wake();
  });
  const saved = () => until(() => client.state.phase === "live" && !client.state.unsaved);
  await client.start();
  await saved();
  client.doc.getText(CONTAINER).insert(4, "two\n");
  client.edited(false);
  await saved();
  assert.equal(room.text, "one\ntwo\n");
  for (const { response } of lines.values()) response.destroy();
  await until(() => client.state.phase === "offline");
  client.doc.getText(CONTAINER).insert(8, "three\n");
  client.edited(false);
  await saved();
  assert.equal(room.text, "one\ntwo\nthree\n");
  client.stop();
});

test("why there is no connection is said by a close code", async () => {
  const closed = (token) => new Promise((resolve) => {
    const handlers = { onOpen: () => resolve("open"), onFrame: () => {}, onClose: resolve };
    eventsLink({ id: room.id, origin, token }, handlers);
  });
  assert.equal(await closed("bad"), 4401);
  for (const [status, code] of [[404, 4404], [409, 4409], [410, 4410], [429, 4429], [500, 1006]]) {
    refuse = status;
    assert.equal(await closed("good"), code);
  }
  refuse = 0;
});

test("events are read whatever way they are cut", async () => {
  const bytes = new TextEncoder().encode(
    ": hello\n\nevent: a\nid: 7\ndata: é1\ndata: 2\n\ndata:x\r\n\r\nevent: empty\n\ndata: last\n\n");
  for (const size of [1, 2, 3, 7, 1000]) {
    const body = new ReadableStream({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) {
          controller.enqueue(bytes.subarray(at, at + size));
        }
        controller.close();
      },
    });
    const seen = [];
    for await (const { event, data } of events(body)) seen.push([event, data]);
    assert.deepEqual(seen, [["a", "é1\n2"], ["message", "x"], ["message", "last"]], `${size}`);
  }
});

test("frames of one post stand behind their lengths", () => {
  assert.deepEqual([...withLengths([new Uint8Array([7]), new Uint8Array([])])],
    [0, 0, 0, 1, 7, 0, 0, 0, 0]);
});
