/**
 * The Python environment with schemathesis, which tests the hub against its own OpenAPI document. Pinned, because another version
 * generates other requests from the same seed. Kept in .cache/ and made anew when it is broken or has another version.
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { runQuietly } from './bootstrap.mjs';

const VERSION = '4.32.5';
const INSTALL_LIMIT_MS = 10 * 60_000;
const PROBE = 'import importlib.metadata as m; print(m.version("schemathesis"))';

/** Returns the path of the `schemathesis` command, or the problem. */
export async function ensureSchemathesis(root) {
  const directory = join(root, '.cache', 'schemathesis-venv');
  const python = join(directory, 'bin', 'python');
  const command = join(directory, 'bin', 'schemathesis');
  if (existsSync(command)) {
    const probe = await runQuietly(python, ['-c', PROBE]);
    if (probe.ok && probe.text.trim() === VERSION) {
      return { command };
    }
  }
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(join(root, '.cache'), { recursive: true });
  for (const [file, ...args] of [
    ['/usr/bin/python3', '-m', 'venv', directory],
    [python, '-m', 'pip', 'install', '--quiet', `schemathesis==${VERSION}`],
  ]) {
    const { ok, text } = await runQuietly(file, args, { timeout: INSTALL_LIMIT_MS });
    if (!ok) {
      const lastLines = text.trim().split('\n').slice(-3).join('\n');
      return { problem: `${[file, ...args].join(' ')} failed: ${lastLines}` };
    }
  }
  return { command };
}
