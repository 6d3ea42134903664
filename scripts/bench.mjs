/**
 * `npm run bench`: from a bare checkout to the table of docs/performance.md.
 *
 *   npm run bench                              everything but the peers: about half an hour, ten minutes of it idling
 *   npm run bench -- --quick                   a few minutes
 *   npm run bench -- --only echo,javascript    some of it
 *   npm run bench -- --vs-globus --profile     with globus-compute-endpoint from PyPI, and with flame graphs
 *   npm run bench -- --help                    the rest
 *
 * Installs what is missing as `npm test` does, builds, and measures in a network namespace of its own (bench/bench.ts). Only the
 * figures go to stdout.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';

import { dependenciesInstalled, pruneOutputs, ROOT, runQuietly } from './bootstrap.mjs';
import { ensureGlobusEndpoint } from './globus-endpoint-venv.mjs';
import { namespacePrefix } from './namespace.mjs';
import { ensurePrerequisites, explainMissing } from './prerequisites.mjs';
import { ensureSdkVenv } from './sdk-venv.mjs';

const EXIT_UNAVAILABLE = 69;
/** Settings of the person's shell that would change what is measured. */
const FOREIGN_VARIABLES = /^(OUTPOST_|GLOBUS_|FUNCX_|BENCH_|NODE_OPTIONS$)/;

function stop(message) {
  console.error(message);
  process.exit(EXIT_UNAVAILABLE);
}

async function step(name, command, args) {
  console.error(name);
  const { ok, text } = await runQuietly(command, args);
  if (!ok) {
    stop(`${command} ${args.join(' ')} failed:\n${text.trimEnd()}`);
  }
}

/** Brings what measuring needs; returns the variables that tell where it is. */
async function prepare(args) {
  const missing = await ensurePrerequisites({});
  if (missing.length > 0) {
    stop(explainMissing(missing));
  }
  // The namespace has no way out, so whatever comes from an index comes now.
  const variables = {};
  const sdk = await ensureSdkVenv(ROOT, { upgrade: false });
  if (sdk.python === undefined) {
    console.error(`${sdk.problem}\nwithout it the row of the Python SDK is left out`);
  } else {
    variables.OUTPOST_TEST_DILL_PYTHON = sdk.python;
    variables.OUTPOST_TEST_SDK_PYTHON = sdk.python;
  }
  if (args.includes('--vs-globus') || args.some((arg) => /(^|[,=])globus(,|$)/.test(arg))) {
    console.error('globus-compute-endpoint');
    const { command, problem } = await ensureGlobusEndpoint(ROOT);
    if (command === undefined) {
      stop(problem);
    }
    variables.BENCH_GLOBUS_ENDPOINT = command;
  }
  return variables;
}

async function main() {
  const args = process.argv.slice(2);
  const measures = !args.some((arg) => arg === '--help' || arg.startsWith('--from'));
  if (!dependenciesInstalled()) {
    await step('npm ci', 'npm', ['ci']);
  }
  pruneOutputs('build', '.');
  pruneOutputs('dist', 'src');
  await step('build', 'npm', ['run', '--silent', 'build']);
  await step('build of the bench', 'npm', ['run', '--silent', 'build:test']);
  const variables = measures ? await prepare(args) : {};
  const { prefix, reason } = namespacePrefix();
  if (reason !== undefined && measures) {
    console.error(`no network namespace (${reason}): measuring on this host's own network`);
  }
  const kept = Object.entries(process.env).filter(([name]) => !FOREIGN_VARIABLES.test(name));
  const [file, ...rest] = [
    ...prefix,
    process.execPath,
    join(ROOT, 'build/bench/bench.js'),
    ...args,
  ];
  const child = spawn(file, rest, {
    cwd: ROOT,
    env: { ...Object.fromEntries(kept), NO_PROXY: '*', ...variables },
    stdio: 'inherit',
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => child.kill(signal));
  }
  child.once('error', (error) => stop(error.message));
  child.once('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}

await main();
