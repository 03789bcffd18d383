// Where the others are in the text: carets with names, and what they have selected.
//
// Names and colours come from strangers: names are text nodes, colours are hues (numbers).

import {
  Decoration, EditorView, StateEffect, StateField, WidgetType,
} from "../../vendor/codemirror.js";

/** @typedef {import("./client.js").Presence} Presence */

/** @type {import("../../vendor/codemirror.js").StateEffectType<Presence[]>} */
export const setCarets = StateEffect.define();

class Caret extends WidgetType {
  /** @param {string} name @param {number} color @param {boolean} typing */
  constructor(name, color, typing) {
    super();
    this.name = name;
    this.color = color;
    this.typing = typing;
  }

  /** @param {Caret} other @override */
  eq(other) {
    return other.name === this.name && other.color === this.color && other.typing === this.typing;
  }

  /** @override */
  toDOM() {
    const caret = document.createElement("span");
    caret.className = this.typing ? "caret typing" : "caret";
    caret.style.setProperty("--hue", String(this.color));
    caret.setAttribute("aria-hidden", "true");
    const label = document.createElement("span");
    label.className = "caret-name";
    label.textContent = this.name;
    // A joiner on either side keeps the line's height where the caret stands alone.
    caret.append("\u2060", label, "\u2060");
    return caret;
  }

  /** @override */
  get estimatedHeight() {
    return -1;
  }

  /** @override */
  ignoreEvent() {
    return true;
  }
}

/** @param {Presence[]} people @param {number} length */
function decorations(people, length) {
  const ranges = [];
  for (const { anchor, head, name, color, typing } of people) {
    if (anchor === null || head === null) continue;
    const [a, h] = [Math.min(anchor, length), Math.min(head, length)];
    if (a !== h) {
      const attributes = { style: `--hue: ${color}` };
      ranges.push(Decoration.mark({ class: "their-selection", attributes })
        .range(Math.min(a, h), Math.max(a, h)));
    }
    const side = h > a ? -1 : 1;
    ranges.push(Decoration.widget({ widget: new Caret(name, color, typing), side }).range(h));
  }
  return Decoration.set(ranges, true);
}

export const carets = StateField.define({
  create: () => ({ people: /** @type {Presence[]} */ ([]), shown: Decoration.none }),
  update(value, transaction) {
    let { people } = value;
    if (transaction.docChanged) {
      // Until they say where they are now, they move with the text around them.
      const move = (/** @type {number | null} */ at) => (
        at === null ? null : transaction.changes.mapPos(Math.min(at,
          transaction.startState.doc.length), 1));
      people = people.map((one) => ({ ...one, anchor: move(one.anchor), head: move(one.head) }));
    }
    for (const effect of transaction.effects) if (effect.is(setCarets)) people = effect.value;
    if (people === value.people) return value;
    return { people, shown: decorations(people, transaction.newDoc.length) };
  },
  provide: (field) => EditorView.decorations.from(field, (value) => value.shown),
});
