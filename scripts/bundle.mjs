/**
 * The last step of `npm run build`: the programs of the agent as few files, so that `agent start` loads a dozen modules and not two hundred.
 *
 *   dist/cli/agent.js, agent-daemon.js, workers/host-main.js    entries, in the place of what the compiler made of them
 *   dist/chunks/                                                what they share, and each command's own, loaded when it is used
 *   dist/workers/javascript/thread-worker.js                    one file: a thread tells its own stack frames by its directory
 *
 * Everything else in dist/ stays as the compiler wrote it. Names of functions and classes are kept, so stack traces and profiles read as before.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';

import { build } from 'esbuild';

import { ROOT } from './bootstrap.mjs';

/** Have files of their own beside them (threads, binaries, plug-ins), or are for commands that nobody waits for. */
const EXTERNAL = [
  'esbuild',
  'node-cron',
  'node-unix-socket',
  'pino-pretty',
  'piscina',
  'prom-client',
];

const OPTIONS = {
  absWorkingDir: ROOT,
  outbase: 'src',
  outdir: 'dist',
  bundle: true,
  external: EXTERNAL,
  platform: 'node',
  target: 'node20.19',
  format: 'esm',
  sourcemap: true,
  minifyWhitespace: true,
  minifySyntax: true,
  logLevel: 'warning',
  // Packages of the older kind call it.
  banner: {
    js: "import { createRequire as createRequireOfChunk } from 'node:module'; const require = createRequireOfChunk(import.meta.url);",
  },
};

rmSync(join(ROOT, 'dist/chunks'), { recursive: true, force: true });
await Promise.all([
  build({
    ...OPTIONS,
    entryPoints: ['src/cli/agent.ts', 'src/cli/agent-daemon.ts', 'src/workers/host-main.ts'],
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
  }),
  build({ ...OPTIONS, entryPoints: ['src/workers/javascript/thread-worker.ts'] }),
]);
