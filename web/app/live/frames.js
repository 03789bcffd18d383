// Frames of the Loro sync protocol: long updates in pieces, and back again.

import {
  CrdtType, MAX_MESSAGE_SIZE, MessageType, decode, encode,
} from "../../vendor/loro-protocol.js";

/** @typedef {import("../../vendor/loro-protocol.js").ProtocolMessage} Message */
/** @typedef {import("../../vendor/loro-protocol.js").DocUpdate} DocUpdate */
/** @typedef {import("../../vendor/loro-protocol.js").CrdtType} Crdt */

/** Bytes of an update in one frame; the rest is its head, generously. */
const PIECE = MAX_MESSAGE_SIZE - 4096;
/** What a server may send: a whole document with its history. */
const BYTES_MAX = 256 << 20;

/** @param {number} bytes @returns {`0x${string}`} */
export function randomHex(bytes) {
  const drawn = crypto.getRandomValues(new Uint8Array(bytes));
  return `0x${Array.from(drawn, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * One update as frames, and the id its Ack will name.
 * @param {Crdt} crdt
 * @param {string} roomId
 * @param {Uint8Array} update
 */
export function updateFrames(crdt, roomId, update) {
  const batchId = randomHex(8);
  const head = { crdt, roomId, batchId };
  if (update.length <= PIECE) {
    const frame = encode({ type: MessageType.DocUpdate, ...head, updates: [update] });
    return { batchId, frames: [frame] };
  }
  const count = Math.ceil(update.length / PIECE);
  const frames = [encode({
    type: MessageType.DocUpdateFragmentHeader,
    ...head,
    fragmentCount: count,
    totalSizeBytes: update.length,
  })];
  for (let index = 0; index < count; index += 1) {
    const fragment = update.subarray(index * PIECE, (index + 1) * PIECE);
    frames.push(encode({ type: MessageType.DocUpdateFragment, ...head, index, fragment }));
  }
  return { batchId, frames };
}

/** Puts the pieces of one connection together. */
export class Assembler {
  constructor() {
    /** @type {Map<string, {left: number, bytes: Uint8Array, pieces: (Uint8Array | null)[]}>} */
    this.open = new Map();
  }

  /**
   * The message of a frame; `null` for a piece of one that is not whole yet.
   * @param {Uint8Array} frame
   * @returns {Message | null}
   * @throws {Error} when the frame is none
   */
  take(frame) {
    const message = decode(frame);
    if (message.type === MessageType.DocUpdateFragmentHeader) {
      const { fragmentCount, totalSizeBytes, batchId } = message;
      if (totalSizeBytes > BYTES_MAX || fragmentCount < 1 || fragmentCount > totalSizeBytes) {
        throw new Error("a fragmented update of impossible size");
      }
      this.open.set(batchId, {
        left: fragmentCount,
        bytes: new Uint8Array(totalSizeBytes),
        pieces: new Array(fragmentCount).fill(null),
      });
      return null;
    }
    if (message.type === MessageType.DocUpdateFragment) {
      const batch = this.open.get(message.batchId);
      if (!batch || message.index >= batch.pieces.length || batch.pieces[message.index]) {
        throw new Error("a fragment that belongs to nothing");
      }
      batch.pieces[message.index] = message.fragment;
      batch.left -= 1;
      if (batch.left > 0) return null;
      this.open.delete(message.batchId);
      let at = 0;
      for (const piece of batch.pieces) {
        if (!piece) continue;
        batch.bytes.set(piece, at);
        at += piece.length;
      }
      if (at !== batch.bytes.length) throw new Error("fragments that are not the whole");
      const { crdt, roomId, batchId } = message;
      return { type: MessageType.DocUpdate, crdt, roomId, batchId, updates: [batch.bytes] };
    }
    return message;
  }
}

export { CrdtType, MessageType, encode };
