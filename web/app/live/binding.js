// The editor and the shared text, held together.
//
// Invariants: outside a call of this file the editor's document and the Loro text are equal; own
// edits go into the text in the very update that made them, remote ones come in one transaction;
// no transaction that came from the text goes back into it.
//
// Undo is CodeMirror's history, not Loro's UndoManager: remote transactions are left out of it
// and mapped through it, so it undoes one's own edits only; it survives a change of the peer id
// (every connection has its own, and UndoManager is bound to one), a document made anew in
// another epoch, and it restores selections. What it emits is an ordinary own edit.

import {
  Annotation, EditorState, Transaction, ViewPlugin,
} from "../../vendor/codemirror.js";
import { tightDiff } from "../diff.js";

/** @typedef {import("../../vendor/loro.js").LoroDoc} LoroDoc */
/** @typedef {import("../../vendor/loro.js").LoroText} LoroText */
/** @typedef {import("../../vendor/codemirror.js").ChangeSet} ChangeSet */
/** @typedef {import("../../vendor/codemirror.js").TransactionSpec} TransactionSpec */
/** @typedef {{insert?: string, delete?: number, retain?: number}} TextDelta */
/**
 * What a binding needs of an EditorView.
 * @typedef {{state: EditorState, dispatch: (spec: TransactionSpec) => void}} Editor
 */

/** The name of the one container of a session's document. */
export const CONTAINER = "text";

/** Marks what came from the shared text. */
export const remote = Annotation.define();

/** Code units inserted at once; more is cut, so that no update outgrows the server's bound. */
const INSERT_MAX = 200_000;

const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** LF only, and whole code points only: what both sides can hold. @param {string} text */
export function clean(text) {
  return text.replace(/\r\n?/g, "\n").replace(LONE_SURROGATE, "\ufffd");
}

export class Binding {
  /**
   * @param {Editor} editor
   * @param {(large: boolean) => void} onEdit after own edits went into the text; `large` when
   *   they should be sent before more is inserted
   */
  constructor(editor, onEdit) {
    this.editor = editor;
    this.onEdit = onEdit;
    /** @type {LoroText | null} */
    this.text = null;
    this.unsubscribe = () => {};
  }

  /**
   * From here on the editor shows this document; what differs comes as remote edits.
   * @param {LoroDoc | null} doc
   */
  setDoc(doc) {
    this.unsubscribe();
    this.unsubscribe = () => {};
    this.text = doc && doc.getText(CONTAINER);
    if (!this.text) return;
    this.unsubscribe = this.text.subscribe((batch) => {
      if (batch.by === "local") return;
      for (const { diff } of batch.events) {
        if (diff.type === "text") this.fromText(/** @type {TextDelta[]} */ (diff.diff));
      }
    });
    this.mend();
  }

  /** @param {TextDelta[]} delta */
  fromText(delta) {
    const changes = [];
    let at = 0;
    for (const part of delta) {
      if (part.retain) at += part.retain;
      if (part.insert) changes.push({ from: at, insert: part.insert });
      if (part.delete) {
        changes.push({ from: at, to: at + part.delete });
        at += part.delete;
      }
    }
    if (changes.length > 0) this.dispatchRemote(changes);
    if (this.text?.length !== this.editor.state.doc.length) this.mend();
  }

  /** @param {{from: number, to?: number, insert?: string}[]} changes */
  dispatchRemote(changes) {
    this.editor.dispatch({
      changes,
      annotations: [remote.of(true), Transaction.addToHistory.of(false)],
    });
  }

  /**
   * To be called with every transaction the editor took.
   * @param {readonly Transaction[]} transactions
   */
  took(transactions) {
    if (!this.text) return;
    let edited = false;
    for (const transaction of transactions) {
      if (!transaction.docChanged || transaction.annotation(remote)) continue;
      edited = true;
      try {
        this.toText(transaction.changes);
      } catch {
        // Half of a code point was cut off. The text takes the whole difference instead.
        this.overwrite();
        break;
      }
    }
    if (edited) this.onEdit(false);
  }

  /** @param {ChangeSet} changes */
  toText(changes) {
    const text = /** @type {LoroText} */ (this.text);
    changes.iterChanges((fromA, toA, fromB, _toB, inserted) => {
      if (toA > fromA) text.delete(fromB, toA - fromA);
      if (inserted.length === 0) return;
      const whole = inserted.toString();
      // Undo passes no filter: it can bring half a code point back, which the text cannot hold.
      if (clean(whole) !== whole) queueMicrotask(() => this.mend());
      for (let at = 0; at < whole.length; ) {
        let end = Math.min(at + INSERT_MAX, whole.length);
        if (end < whole.length && (whole.charCodeAt(end - 1) & 0xfc00) === 0xd800) end -= 1;
        text.insert(fromB + at, whole.slice(at, end));
        if (end < whole.length) this.onEdit(true);
        at = end;
      }
    });
  }

  /** The text becomes what the editor shows. */
  overwrite() {
    const text = /** @type {LoroText} */ (this.text);
    const old = text.toString();
    const shown = clean(this.editor.state.doc.toString());
    for (const hunk of tightDiff(old, shown).reverse()) {
      if (hunk.toA > hunk.fromA) text.delete(hunk.fromA, hunk.toA - hunk.fromA);
      if (hunk.toB > hunk.fromB) text.insert(hunk.fromA, shown.slice(hunk.fromB, hunk.toB));
    }
    // The editor may hold half a code point still; it is in the middle of an update now.
    queueMicrotask(() => this.mend());
  }

  /** The editor becomes what the text is. */
  mend() {
    if (!this.text) return;
    const wanted = this.text.toString();
    const shown = this.editor.state.doc.toString();
    if (wanted === shown) return;
    this.dispatchRemote(tightDiff(shown, wanted).map(({ fromA, toA, fromB, toB }) => (
      { from: fromA, to: toA, insert: wanted.slice(fromB, toB) })));
  }

  destroy() {
    this.setDoc(null);
  }
}

/** What own edits may insert; remote ones are clean already. */
export const cleanInput = [
  // Offsets count code units of LF text; with a CR of its own a line break would be two.
  EditorState.lineSeparator.of("\n"),
  EditorState.transactionFilter.of((transaction) => {
    if (!transaction.docChanged || transaction.annotation(remote)) return transaction;
    let dirty = false;
    transaction.changes.iterChanges((_fromA, _toA, _fromB, _toB, inserted) => {
      dirty ||= inserted.length > 0 && clean(inserted.toString()) !== inserted.toString();
    });
    if (!dirty) return transaction;
    /** @type {{from: number, to: number, insert: string}[]} */
    const changes = [];
    transaction.changes.iterChanges((from, to, _fromB, _toB, inserted) => {
      changes.push({ from, to, insert: clean(inserted.toString()) });
    });
    const set = transaction.startState.changes(changes);
    return {
      changes: set,
      selection: { anchor: set.mapPos(transaction.startState.selection.main.to, 1) },
      scrollIntoView: transaction.scrollIntoView,
      userEvent: transaction.annotation(Transaction.userEvent),
    };
  }),
];

/**
 * The extension that tells a binding of what the editor took.
 * @param {(editor: Editor) => Binding} make
 */
export function bound(make) {
  return [cleanInput, ViewPlugin.define((view) => {
    const binding = make(view);
    return {
      update: (update) => binding.took(update.transactions),
      destroy: () => binding.destroy(),
    };
  })];
}
