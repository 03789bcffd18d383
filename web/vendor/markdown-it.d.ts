export { default } from "markdown-it";
export const footnotes: any;
