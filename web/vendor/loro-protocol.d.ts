export * from "loro-protocol";
