/**
 * From a bare checkout to something that runs: `npm ci` when node_modules is not what the lock says, and the build.
 * Only Node's own modules: this runs before anything is installed.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '..');

/** Runs a program to its end with its output kept. */
export async function runQuietly(command, args, options = {}) {
  const begun = performance.now();
  return await new Promise((resolve) => {
    let text = '';
    const child = spawn(command, args, {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...options,
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        text += chunk.toString('utf8');
      });
    }
    const done = (ok) => resolve({ ok, text, durationMs: performance.now() - begun });
    child.once('error', (error) => {
      text += error.message;
      done(false);
    });
    child.once('close', (code) => done(code === 0));
  });
}

/** Whether node_modules holds what the lock says. */
export function dependenciesInstalled() {
  const hidden = join(ROOT, 'node_modules/.package-lock.json');
  if (!existsSync(hidden)) {
    return false;
  }
  const { packages: wanted } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  const { packages: present } = JSON.parse(readFileSync(hidden, 'utf8'));
  const same = (path) =>
    wanted[path]?.version === present[path]?.version &&
    wanted[path]?.integrity === present[path]?.integrity;
  // Optional packages for other platforms stand in the lock only.
  return (
    Object.keys(present).every(same) &&
    Object.keys(wanted).every((path) => path === '' || wanted[path].optional === true || same(path))
  );
}

/** Removes compiled files whose source is gone: they would still be found and run. */
export function pruneOutputs(output, source) {
  const directory = join(ROOT, output);
  for (const file of existsSync(directory) ? readdirSync(directory, { recursive: true }) : []) {
    const match = /^(.*)\.(js|js\.map|d\.ts|d\.ts\.map)$/.exec(file);
    if (match !== null && !existsSync(join(ROOT, source, `${match[1]}.ts`))) {
      rmSync(join(directory, file));
    }
  }
}
