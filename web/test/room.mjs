// The other end of a session, in memory: a real document behind real frames, as the server keeps
// them. What a test wants to be slow, lost or refused, it switches here.

import { LoroDoc, VersionVector } from "./loro.mjs";
import { CONTAINER } from "../app/live/binding.js";
import { Assembler, CrdtType, MessageType, encode, updateFrames } from "../app/live/frames.js";

let rooms = 0;

export class Room {
  constructor(text, epoch = `epoch ${(rooms += 1)}`) {
    this.epoch = epoch;
    this.role = "write";
    this.id = `room ${rooms}`;
    this.doc = new LoroDoc();
    this.doc.setPeerId((1n << 64n) - (1n << 32n));
    if (text) this.doc.getText(CONTAINER).insert(0, text);
    this.doc.commit();
    this.lines = new Set();
    /** What an update gets: a status, or "silence" when neither it nor its Ack arrives. */
    this.answer = () => 0;
    this.onChange = () => {};
    this.taken = 0;
  }

  get text() {
    return this.doc.getText(CONTAINER).toString();
  }

  /** An edit from a file or another device. */
  outside(text) {
    const before = this.doc.oplogVersion();
    this.doc.getText(CONTAINER).update(text);
    this.doc.commit();
    this.tell(CrdtType.Loro, this.doc.export({ mode: "update", from: before }), null);
    this.control({ type: "outside", by: "somebody", device: "vim" });
  }

  control(event) {
    this.tell(CrdtType.LoroEphemeralStorePersisted,
      new TextEncoder().encode(JSON.stringify(event)), null);
  }

  tell(crdt, update, except) {
    for (const line of this.lines) {
      if (line === except || !line.joined.has(crdt)) continue;
      for (const frame of updateFrames(crdt, this.id, update).frames) line.send(frame);
    }
  }

  /** A connection; `send(frame)` brings frames to the client. */
  connect(send, name = "ann") {
    const line = { send, name, joined: new Set(), parts: new Assembler() };
    this.lines.add(line);
    return {
      take: (frame) => this.take(line, frame),
      gone: () => this.lines.delete(line),
    };
  }

  take(line, frame) {
    const message = line.parts.take(frame);
    if (!message) return;
    const { crdt } = message;
    if (message.type === MessageType.JoinRequest) {
      line.joined.add(crdt);
      const loro = crdt === CrdtType.Loro;
      const extra = { epoch: this.epoch, base: { version: "00" }, role: this.role, name: line.name };
      line.send(encode({
        type: MessageType.JoinResponseOk, crdt, roomId: this.id, permission: this.role,
        version: loro ? this.doc.oplogVersion().encode() : new Uint8Array(),
        extra: new TextEncoder().encode(JSON.stringify(extra)),
      }));
      if (!loro) return;
      const known = message.version.length > 0 ? VersionVector.decode(message.version) : null;
      const update = known ? this.doc.export({ mode: "update", from: known })
        : this.doc.export({ mode: "snapshot" });
      for (const one of updateFrames(crdt, this.id, update).frames) line.send(one);
      return;
    }
    if (message.type !== MessageType.DocUpdate) return;
    if (crdt !== CrdtType.Loro) {
      for (const update of message.updates) this.tell(crdt, update, line);
      return;
    }
    const status = this.role === "write" ? this.answer(message) : 3;
    if (status === "silence") return;
    if (status === 0) {
      for (const update of message.updates) this.doc.import(update);
      this.taken += 1;
      for (const update of message.updates) this.tell(crdt, update, line);
      this.onChange();
    }
    line.send(encode({
      type: MessageType.Ack, crdt, roomId: this.id, refId: message.batchId, status,
    }));
  }
}
