// Hocuspocus as its documentation starts it, with its SQLite extension and its defaults: what was
// typed is stored 2 s after the last edit, and every 10 s while somebody types.
//
// node server.mjs DATABASE PORT; says the port it listens on.

import { SQLite } from "@hocuspocus/extension-sqlite";
import { Server } from "@hocuspocus/server";

const [, , database, port] = process.argv;
const server = new Server({
  address: "127.0.0.1",
  port: Number(port),
  quiet: true,
  extensions: [new SQLite({ database })],
});
await server.listen();
console.log(server.address.port);
