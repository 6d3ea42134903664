/**
 * The test suites: what each needs, and how one is run.
 *
 * A suite is a mocha process in a process group of its own. At its limit, and at its end, the whole group is killed, so a leak of one
 * suite cannot reach the next; and when the runner itself is killed the kernel ends the suite with it.
 */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ROOT } from './bootstrap.mjs';

const MINUTE_MS = 60_000;

/** In the order in which they run. The limits end what hangs; a slow machine must not meet them. */
export const SUITES = [
  { name: 'unit', limitMs: 5 * MINUTE_MS, testTimeoutMs: 40_000 },
  { name: 'python', limitMs: 5 * MINUTE_MS },
  { name: 'component', limitMs: 20 * MINUTE_MS, testTimeoutMs: 90_000 },
  { name: 'integration', limitMs: 30 * MINUTE_MS, testTimeoutMs: 240_000, services: true },
  { name: 'interop', limitMs: 20 * MINUTE_MS, testTimeoutMs: 300_000, services: true, sdk: true },
  { name: 'chaos', limitMs: 15 * MINUTE_MS, testTimeoutMs: 240_000, services: true },
  { name: 'packaging', limitMs: 10 * MINUTE_MS, testTimeoutMs: 240_000, services: true },
];

/** `npm run fuzz` is bounded by its examples; this ends what hangs. */
const FUZZ_LIMIT_MS = 12 * 60 * MINUTE_MS;

function limitOf(suite) {
  return process.env.FUZZ_EXAMPLES === undefined ? suite.limitMs : FUZZ_LIMIT_MS;
}

/** Settings of the person's shell that would change what a test does. */
const FOREIGN_VARIABLES =
  /^(OUTPOST_|GLOBUS_|FUNCX_|XDG_|NOTIFY_SOCKET$|WATCHDOG_|LISTEN_|NODE_OPTIONS$|npm_|PYTHON(PATH|HOME|STARTUP)$|VIRTUAL_ENV$|(https?|all)_proxy$)/i;

/** The result of a suite or a check. */
export function tally(name, fields = {}) {
  const counts = { passed: 0, failed: 0, skipped: 0, failures: [], titles: [], durationMs: 0 };
  return { name, ...counts, ...fields };
}

/** A suite that could not be run counts as one failure with its reason. */
export function failedTally(name, message, durationMs = 0) {
  return tally(name, { failed: 1, failures: [{ title: name, message }], durationMs });
}

/** Whether the suite has any test. */
export function hasTests(name) {
  if (name === 'python') {
    return existsSync(join(ROOT, 'python/tests'));
  }
  const directory = join(ROOT, 'test', name);
  return (
    existsSync(directory) &&
    readdirSync(directory, { recursive: true }).some((file) => file.endsWith('.test.ts'))
  );
}

function suiteEnvironment(home, extra) {
  const kept = Object.entries(process.env).filter(([key]) => !FOREIGN_VARIABLES.test(key));
  return {
    ...Object.fromEntries(kept),
    NO_PROXY: '*',
    PYTHONDONTWRITEBYTECODE: '1',
    ...extra,
    HOME: home,
  };
}

const running = new Set();

function killGroup(pid) {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') {
      throw error;
    }
  }
}

/** Kills whatever suite runs now; for the runner's own end. */
export function killRunningSuites() {
  for (const pid of running) {
    killGroup(pid);
  }
}

async function runGroup(command, args, { env, limitMs, onOutput }) {
  const child = spawn('setpriv', ['--pdeathsig=KILL', '--', command, ...args], {
    cwd: ROOT,
    env,
    detached: true,
    stdio: ['ignore', 'inherit', onOutput === undefined ? 'inherit' : 'pipe'],
  });
  child.stderr?.on('data', onOutput);
  if (child.pid !== undefined) {
    running.add(child.pid);
  }
  return await new Promise((resolve) => {
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup(child.pid);
    }, limitMs);
    child.once('error', (error) => {
      clearTimeout(timer);
      resolve({ problem: `could not be started: ${error.message}` });
    });
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      running.delete(child.pid);
      killGroup(child.pid);
      const ended = signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
      const problem = timedOut ? `was killed at its limit of ${limitMs / 1000} s` : ended;
      resolve({ problem: code === 0 ? undefined : problem });
    });
  });
}

function readSummary(path) {
  return existsSync(path)
    ? JSON.parse(readFileSync(path, 'utf8'))
    : { passed: 0, failed: 0, skipped: 0, failures: [], files: [], ended: false };
}

async function runMocha(suite, { env, specs, mochaArgs, scratch }) {
  const output = join(scratch, 'summary.json');
  const isPart = mochaArgs.length > 0 || specs !== undefined;
  const args = [
    ...['--enable-source-maps', '--unhandled-rejections=strict', '--trace-warnings'],
    join(ROOT, 'node_modules/mocha/bin/mocha.js'),
    ...['--no-config', '--check-leaks', '--forbid-only'],
    // A pattern may well match nothing in one of the suites.
    ...(isPart ? [] : ['--fail-zero']),
    ...['--timeout', `${suite.testTimeoutMs}`],
    ...['--require', join(ROOT, 'build/test/support/root-hooks.js')],
    ...['--reporter', join(ROOT, 'scripts/suite-reporter.cjs')],
    ...['--reporter-option', `output=${output}`],
    ...mochaArgs,
    ...(specs ?? [`build/test/${suite.name}/**/*.test.js`]),
  ];
  const { problem } = await runGroup(process.execPath, args, { env, limitMs: limitOf(suite) });
  const summary = readSummary(output);
  const fail = (title, message) => {
    summary.failed += 1;
    summary.failures.push({ title, message });
  };
  // A test that calls process.exit(0) ends its suite with a code that says nothing of the tests after it.
  if (!summary.ended || (problem !== undefined && summary.failed === 0)) {
    const during = summary.running === undefined ? '' : ` during "${summary.running}"`;
    fail(suite.name, `the suite ${problem ?? 'ended with code 0 before its last test'}${during}`);
  } else if (!isPart) {
    for (const file of filesOf(suite).filter((one) => !summary.files.includes(one))) {
      fail(file, 'has no test');
    }
  }
  return summary;
}

/** The compiled test files of a suite. */
function filesOf({ name }) {
  const directory = join(ROOT, 'build/test', name);
  return readdirSync(directory, { recursive: true })
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => join(directory, file));
}

/** unittest has no summary for machines; its last lines have not changed in twenty years. */
async function runPython(suite, { env }) {
  let text = '';
  const { problem } = await runGroup(
    // With dill when there is an environment that has it; the tests that need it skip otherwise.
    env.OUTPOST_TEST_DILL_PYTHON ?? '/usr/bin/python3',
    ['-m', 'unittest', 'discover', '-v', '-s', 'python/tests'],
    {
      env,
      limitMs: limitOf(suite),
      onOutput: (chunk) => {
        process.stderr.write(chunk);
        text += chunk.toString('utf8');
      },
    },
  );
  const count = Number(/^Ran (\d+) tests?/m.exec(text)?.[1] ?? 0);
  const verdict = text.slice(text.lastIndexOf('\nRan '));
  const number = (word) => Number(new RegExp(`${word}=(\\d+)`).exec(verdict)?.[1] ?? 0);
  const failures = [...text.matchAll(/^(?:FAIL|ERROR): (.+)$/gm)].map(([, title]) => ({
    title: `python ${title}`,
    message: 'see the traceback above',
  }));
  let failed = number('failures') + number('errors') + number('unexpected successes');
  const skipped = number('skipped');
  const passed = Math.max(0, count - failed - skipped);
  if (failed === 0 && (problem !== undefined || count === 0)) {
    failed = 1;
    failures.push({ title: 'python', message: `the suite ${problem ?? 'has run no test'}` });
  }
  return { passed, failed, skipped, failures };
}

/** Runs one suite with a home directory of its own. */
export async function runSuite(suite, { environment, specs, mochaArgs }) {
  // Short, because sockets live below it; open to other users, because root's servers run as those.
  const scratch = mkdtempSync(join(tmpdir(), 'outpost-suite-'));
  const home = join(scratch, 'home');
  mkdirSync(home);
  chmodSync(scratch, 0o711);
  const begun = performance.now();
  try {
    const how = { env: suiteEnvironment(home, environment), specs, mochaArgs, scratch };
    const {
      passed,
      failed,
      skipped,
      failures,
      titles = [],
    } = suite.name === 'python' ? await runPython(suite, how) : await runMocha(suite, how);
    const durationMs = performance.now() - begun;
    return tally(suite.name, { passed, failed, skipped, failures, titles, durationMs });
  } finally {
    rmSync(scratch, { recursive: true, force: true, maxRetries: 3 });
  }
}
