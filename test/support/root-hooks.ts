/**
 * Fails a run that leaves something behind: a handle, a signal listener, or a process warning.
 *
 * What is there before the first test is not ours to blame, and what closes by itself (a kept-alive HTTP connection, a socket
 * that is on its way out) gets half a minute. What is then still there is named, and the process is ended, because a leak
 * would keep it alive for ever.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';

import type { RootHookObject } from 'mocha';

import { eventually } from './eventually.ts';

/** Standard streams and file reads: their number says nothing about us. */
const IGNORED_KINDS = new Set(['TTYWrap', 'PipeWrap', 'FSReqCallback', 'FSReqPromise']);
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const;
/** Much longer than the 4 s for which fetch keeps an idle connection. */
const SETTLE_MS = 30_000;
/** Time for the reporter to write before the process is ended by force. */
const REPORT_MS = 1_000;

const warnings: Error[] = [];
process.on('warning', (warning) => {
  // Deprecations inside a dependency are its authors' to fix; everything else is ours.
  if (warning.name !== 'DeprecationWarning' || warning.stack?.includes('node_modules') !== true) {
    warnings.push(warning);
  }
});

/** Does something that prints a warning; returns the warning, which does not fail the run then. */
export async function warningOf(work: () => Promise<void>): Promise<Error> {
  const warned = once(process, 'warning') as Promise<[Error]>;
  await work();
  const [warning] = await warned;
  warnings.splice(warnings.indexOf(warning), 1);
  return warning;
}

function countByName(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

function present(): Map<string, number> {
  const handles = process.getActiveResourcesInfo().filter((kind) => !IGNORED_KINDS.has(kind));
  const listeners = SIGNALS.flatMap((signal) =>
    process.listeners(signal).map(() => `listener for ${signal}`),
  );
  return countByName([...handles, ...listeners]);
}

async function nextTurn(): Promise<void> {
  await new Promise<void>((resolve) => {
    setImmediate(resolve);
  });
}

let before = new Map<string, number>();

/** Mocha's root hooks. */
export const mochaHooks: RootHookObject = {
  async beforeAll(): Promise<void> {
    // After a turn mocha's own timer for this hook is running, as it is when we look again at the end.
    await nextTurn();
    before = present();
  },
  async afterAll(this: Mocha.Context): Promise<void> {
    this.timeout(SETTLE_MS + 5_000);
    await nextTurn();
    try {
      await eventually(() => {
        const leaked = [...present()].flatMap(([name, count]) => {
          const extra = count - (before.get(name) ?? 0);
          return extra > 0 ? [extra === 1 ? name : `${extra} × ${name}`] : [];
        });
        assert.deepEqual(leaked, [], `left behind after the tests: ${leaked.join(', ')}`);
      }, SETTLE_MS);
      assert.deepEqual(warnings.map(String), [], 'the process printed warnings');
    } catch (error) {
      setTimeout(() => process.exit(1), REPORT_MS).unref();
      throw error;
    }
  },
};
