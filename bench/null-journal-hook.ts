/**
 * A module hook that gives the agent the null journal in place of its own. It is installed by agent-entry.ts only, so that the product
 * has no switch which turns durability off.
 */
import type { ResolveHook } from 'node:module';

const REAL = new URL('../src/agent/journal/journal.js', import.meta.url).href;
const NULL = new URL('./null-journal.js', import.meta.url).href;

/** Resolves as Node does, but for the one module. */
export const resolve: ResolveHook = async (specifier, context, nextResolve) => {
  const resolved = await nextResolve(specifier, context);
  return resolved.url === REAL ? { ...resolved, url: NULL } : resolved;
};
