export * from "loro-crdt/web";
/** Loads the .wasm that lies beside the file; everything else works only afterwards. */
export default function start(
  from?: { module_or_path?: URL | string | BufferSource },
): Promise<unknown>;
