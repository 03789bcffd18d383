// Which keys do what.

import { html } from "../../vendor/preact.js";

const mac = /Mac|iPhone|iPad/.test(navigator.userAgent);
const command = mac ? "⌘" : "Ctrl";

/** @type {[string, [string[], string][]][]} */
const GROUPS = [
  ["Everywhere", [
    [[command, "P"], "Open a note, or search in all of them"],
    [["/"], "The same"],
    [["n"], "New note"],
    [["?"], "These keys"],
    [["Esc"], "Close what is open"],
  ]],
  ["In the search", [
    [["↑", "↓"], "Move"],
    [["Enter"], "Open what is chosen"],
    [[command, "Enter"], "New note of this name"],
  ]],
  ["In a note", [
    [["e"], "Write in it"],
    [["h"], "Its history"],
    [["Esc"], "While writing: leave the text, then stop writing"],
  ]],
  ["While writing", [
    [[command, "Z"], "Undo what you wrote (never what others did)"],
    [[command, mac ? "⇧ Z" : "Y"], "Redo"],
    [[command, "F"], "Find"],
    [[command, "B"], "Bold"],
    [[command, "I"], "Italic"],
  ]],
  ["In the tree", [
    [["↑", "↓"], "Move"],
    [["→", "←"], "Open and close a folder"],
    [["Enter"], "Open the note"],
  ]],
];

/** @param {{onClose: () => void}} props */
export const Keys = ({ onClose }) => html`
  <h2>Keys</h2>
  <div class="keys">
    ${GROUPS.map(([name, keys]) => html`<section>
      <h3>${name}</h3>
      <dl>${keys.map(([combination, what]) => html`<div>
        <dt>${combination.map((key) => html`<kbd>${key}</kbd>`)}</dt><dd>${what}</dd>
      </div>`)}</dl>
    </section>`)}
  </div>
  <div class="buttons"><button class="main" onClick=${onClose}>Close</button></div>`;
