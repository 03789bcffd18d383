export * from "@codemirror/state";
export * from "@codemirror/view";
export {
  history, historyKeymap, defaultKeymap, indentWithTab, undo, redo, undoDepth, redoDepth,
  isolateHistory,
} from "@codemirror/commands";
export { syntaxHighlighting, HighlightStyle, indentUnit } from "@codemirror/language";
export { search, searchKeymap, highlightSelectionMatches } from "@codemirror/search";
export { markdown, markdownLanguage, markdownKeymap } from "@codemirror/lang-markdown";
export { tags } from "@lezer/highlight";
