// What a session's state is called. Apart from the client, so that a page can say it before the
// document's library is there.

/**
 * The state in plain words.
 * @param {import("./client.js").State} state
 */
export function words(state) {
  const { phase, role, unsaved, kept, full, silent, why, problem } = state;
  if (problem) {
    if (problem.kind === "signed-out") {
      return "You were signed out — your text is kept here; copy it";
    }
    return problem.message;
  }
  if (phase === "opening") return "Opening…";
  if (why && unsaved) {
    return `Not saved: ${why}${kept ? " — your edits are kept here" : " — leave the page open"}`;
  }
  if (phase === "offline" && full) {
    return `Too many people are in this note; trying again${unsaved ? " — your edits are kept here" : ""}`;
  }
  if (phase === "offline") {
    if (role === "read" && !unsaved) return "Offline";
    return kept ? "Offline — your edits are kept here"
      : "Offline — this browser keeps nothing; leave the page open";
  }
  if (role === "read") return "Read only";
  if (unsaved && silent) {
    return kept ? "The server is not heard — your edits are kept here"
      : "The server is not heard — leave the page open";
  }
  return unsaved ? "Saving…" : "Saved";
}
