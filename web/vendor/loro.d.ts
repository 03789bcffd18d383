export * from "loro-crdt/web";
export { default } from "loro-crdt/web";
