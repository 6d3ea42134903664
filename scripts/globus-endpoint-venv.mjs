/**
 * The Python environment with the unmodified globus-compute-endpoint that `npm run bench -- --vs-globus` measures beside our agent. It
 * is kept in .cache/ and made anew when it is broken.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';

import { runQuietly } from './bootstrap.mjs';

/** Returns the command `globus-compute-endpoint`, or the problem. */
export async function ensureGlobusEndpoint(root) {
  const directory = join(root, '.cache', 'globus-endpoint-venv');
  const command = join(directory, 'bin', 'globus-compute-endpoint');
  if ((await runQuietly(command, ['version'])).ok) {
    return { command };
  }
  rmSync(directory, { recursive: true, force: true });
  const made = await runQuietly('/usr/bin/python3', ['-m', 'venv', directory]);
  if (!made.ok) {
    return { problem: `/usr/bin/python3 -m venv failed: ${made.text.trim()}` };
  }
  const pip = await runQuietly(join(directory, 'bin', 'python'), [
    ...['-m', 'pip', 'install', '--quiet', 'globus-compute-endpoint'],
  ]);
  const lastLines = pip.text.trim().split('\n').slice(-3).join('\n');
  return (await runQuietly(command, ['version'])).ok
    ? { command }
    : { problem: `pip install globus-compute-endpoint failed: ${lastLines}` };
}
