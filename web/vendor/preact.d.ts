export { render, h, Fragment, createContext } from "preact";
export type { ComponentChildren, VNode, RefObject } from "preact";
export {
  useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback, useContext,
} from "preact/hooks";
export {
  signal, computed, effect, batch, untracked, useSignal, useComputed, useSignalEffect,
} from "@preact/signals";
export type { Signal, ReadonlySignal } from "@preact/signals";
export { html } from "htm/preact";
