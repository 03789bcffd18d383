// Versions that follow one another while somebody writes live are one sitting.

/** @typedef {import("./store.js").Revision} Revision */

/** Between two versions of one sitting. */
const SITTING_MS = 60_000;

/** When a version came, as people are told. @param {Revision} one */
export const when = (one) => one.received_ms ?? one.stamp.ms;

/**
 * Versions in sittings, both newest first. Between versions of one note those of others may stand.
 * @param {Revision[]} list
 * @returns {[Revision, ...Revision[]][]}
 */
export function sittings(list) {
  /** @type {[Revision, ...Revision[]][]} */
  const found = [];
  /** @type {Map<string, [Revision, ...Revision[]]>} the oldest so far of each note */
  const open = new Map();
  for (const one of list) {
    const sitting = open.get(one.note);
    const next = sitting?.at(-1);
    const joins = next && one.session && one.session === next.session
      && one.op === "edit" && next.op === "edit" && when(next) - when(one) <= SITTING_MS;
    if (sitting && joins) {
      sitting.push(one);
      continue;
    }
    /** @type {[Revision, ...Revision[]]} */
    const begun = [one];
    open.set(one.note, begun);
    found.push(begun);
  }
  return found;
}
