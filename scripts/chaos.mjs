/**
 * `npm run chaos`: builds, and runs the supervisor (chaos/supervisor.ts) in a network of its own.
 *
 *   npm run chaos -- --scenario agent-kill --seed 1 --tasks 200 --json
 *
 * Installs what is missing on the machine, as `npm test` does.
 */
import { spawn } from 'node:child_process';

import { dependenciesInstalled, ROOT, runQuietly } from './bootstrap.mjs';
import { namespacePrefix } from './namespace.mjs';
import { ensurePrerequisites, explainMissing } from './prerequisites.mjs';

const wanted = ['util-linux', 'broker', 'database', 'python', 'faketime'];
const missing = await ensurePrerequisites({ wanted });
if (missing.length > 0) {
  console.error(explainMissing(missing));
  process.exit(69);
}
const steps = [...(dependenciesInstalled() ? [] : [['ci']]), ['run', '--silent', 'build:test']];
for (const step of steps) {
  const { ok, text } = await runQuietly('npm', step);
  if (!ok) {
    console.error(text);
    process.exit(70);
  }
}
const { prefix, reason } = namespacePrefix();
if (reason !== undefined) {
  console.error(`no network namespace (${reason}): running on this host's own network`);
}
const [file, ...args] = [
  ...prefix,
  ...[process.execPath, '--enable-source-maps', 'build/chaos/supervisor.js'],
  ...process.argv.slice(2),
];
const child = spawn(file, args, { cwd: ROOT, stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => child.kill(signal));
}
child.once('error', (error) => {
  console.error(error.message);
  process.exitCode = 71;
});
child.once('exit', (code, signal) => {
  process.exitCode = signal === null ? code : 130;
});
