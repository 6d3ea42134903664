/**
 * `npm run quickstart`: from a fresh clone to functions that run, in one command.
 *
 *   npm run quickstart                 start hub and agent, run the tour, leave them running
 *   npm run quickstart -- --yes        install what is missing without asking
 *   npm run quickstart -- --once       stop everything at the end
 *   npm run quickstart -- --json       the last line is {"ok", "checks": [{"name", "ok", "ms"}], "readyMs"}
 *   npm run quickstart -- --stop       stop what an earlier run left running
 *
 * State lies under OUTPOST_HOME (~/.outpost). With OUTPOST_AMQP_URL, OUTPOST_AMQP_MANAGEMENT_URL and OUTPOST_DATABASE_URL set, your
 * servers are used and nothing is installed for them. Only Node's own modules until the dependencies are there.
 */
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { dependenciesInstalled, pruneOutputs, ROOT, runQuietly } from './bootstrap.mjs';
import { ensurePrerequisites, explainMissing } from './prerequisites.mjs';
import { ensureSdkVenv } from './sdk-venv.mjs';

const ENDPOINT = 'quickstart';
/** The unmodified Python SDK knows no other port. */
const SDK_PORT = '5000';
const BATCH_COUNT = 1000;
const HOME = process.env.OUTPOST_HOME ?? join(homedir(), '.outpost');
const HUB = join(ROOT, 'dist/cli/hub.js');
const AGENT = join(ROOT, 'dist/cli/agent.js');
/** Which process is the hub on your own servers. */
const OWN_HUB_PID = join(HOME, '.hub', 'quickstart-hub.pid');
const isTerminal = process.stdout.isTTY === true;

/** What cannot be gone on from, told without a stack. */
class Stop extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

function readOptions() {
  try {
    return parseArgs({
      options: {
        yes: { type: 'boolean', default: false },
        once: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        stop: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    throw new Stop(
      `${error.message}\nusage: npm run quickstart -- [--yes] [--once] [--json] [--stop]`,
      64,
    );
  }
}

const style = (code, text) => (isTerminal ? `\u001b[${code}m${text}\u001b[0m` : text);
const bold = (text) => style('1', text);
const dim = (text) => style('2', text);
const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** A line that is replaced by its outcome; without a terminal only the outcome is printed. */
function begin(title) {
  const begun = performance.now();
  const show = (text) => {
    if (isTerminal) {
      process.stdout.write(`\r\u001b[2K${text}`);
    }
  };
  show(`… ${title}`);
  const end = (mark, note) => {
    show('');
    const ms = performance.now() - begun;
    console.log(
      `${mark} ${title.padEnd(30)} ${note === '' ? '' : `${note}  `}${dim(`(${seconds(ms)})`)}`,
    );
    return ms;
  };
  return {
    progress: (note) => show(`… ${title.padEnd(30)} ${note}`),
    succeed: (note = '') => end(style('32', '✔'), note),
    fail: (note) => end(style('31', '✘'), note),
    skip: (note) => end(style('33', '–'), note),
  };
}

/** Runs one step of the preparation; its output is shown only when it fails. */
async function step(title, work) {
  const line = begin(title);
  try {
    const value = await work(line);
    line.succeed(typeof value === 'string' ? value : '');
    return value;
  } catch (error) {
    line.fail('');
    throw error;
  }
}

async function run(command, args, options) {
  const { ok, text } = await runQuietly(command, args, options);
  if (!ok) {
    throw new Stop(`${[command, ...args].join(' ')} failed:\n${text.trimEnd()}`);
  }
  return text;
}

/** Newest change below a directory, in milliseconds. */
function newest(directory) {
  const files = readdirSync(directory, { recursive: true }).map((file) => join(directory, file));
  return Math.max(0, ...files.map((file) => statSync(file).mtimeMs));
}

async function prepare({ yes }) {
  const ownServers =
    process.env.OUTPOST_AMQP_URL !== undefined && process.env.OUTPOST_DATABASE_URL !== undefined;
  const wanted = ['python', ...(ownServers ? [] : ['util-linux', 'broker', 'database'])];
  const missing = await ensurePrerequisites({ wanted, assumeYes: yes });
  if (missing.length > 0) {
    throw new Stop(explainMissing(missing), 69);
  }
  if (!dependenciesInstalled()) {
    await step('install packages (npm ci)', async () => {
      await run('npm', ['ci']);
    });
  }
  const marker = join(ROOT, 'dist/.tsbuildinfo');
  if (!existsSync(marker) || statSync(marker).mtimeMs < newest(join(ROOT, 'src'))) {
    await step('build', async () => {
      pruneOutputs('dist', 'src');
      await run('npm', ['run', '--silent', 'build']);
    });
  }
  return ownServers;
}

/** Runs `hub` or `agent` and returns its JSON document; a failure carries the command's own message. */
async function command(script, args, { allowFailure = false } = {}) {
  return await new Promise((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    const child = spawn(process.execPath, [script, ...args, '--json'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0 || allowFailure) {
        resolve(stdout.trim() === '' ? {} : JSON.parse(stdout));
      } else {
        reject(
          new Stop(
            stderr.trim() === ''
              ? `${script} ${args.join(' ')} ended with code ${code}`
              : stderr.trim(),
            code,
          ),
        );
      }
    });
  });
}

/** A hub with your own servers runs in the background like `hub dev --detach` does. */
async function startOwnHub() {
  const directory = join(HOME, '.hub');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const log = openSync(join(directory, 'hub.log'), 'a', 0o600);
  const hub = spawn(process.execPath, [HUB, 'start'], {
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  const url = `http://localhost:${process.env.OUTPOST_HUB_PORT ?? SDK_PORT}`;
  let ended;
  hub.once('exit', (code) => {
    ended = code;
  });
  for (;;) {
    if (ended !== undefined) {
      throw new Stop(
        `hub start ended with code ${ended}; see ${join(directory, 'hub.log')}`,
        ended ?? 1,
      );
    }
    const answered = await fetch(`${url}/v2/version`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (answered) {
      hub.unref();
      writeFileSync(OWN_HUB_PID, `${hub.pid}`);
      return url;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function startHub(ownServers) {
  const status = await command(HUB, ['status'], { allowFailure: true });
  // Without a record of ours it is somebody else's hub that answers; with your own servers any hub of yours will do.
  if (status.ready === true && (ownServers || status.pid !== undefined)) {
    return status.hub_url;
  }
  return ownServers ? await startOwnHub() : (await command(HUB, ['dev', '--detach'])).hub_url;
}

/** Stops the hub, whichever way it was started here. */
async function stopHub() {
  if (existsSync(OWN_HUB_PID)) {
    const pid = Number(readFileSync(OWN_HUB_PID, 'utf8'));
    const commandLine = `/proc/${pid}/cmdline`;
    if (existsSync(commandLine) && readFileSync(commandLine, 'utf8').includes(HUB)) {
      process.kill(pid, 'SIGTERM');
    }
    rmSync(OWN_HUB_PID);
    return;
  }
  await command(HUB, ['stop'], { allowFailure: true });
}

/** Makes the endpoint with a client of its own, unless there is one that the hub knows. */
async function configureEndpoint(hubUrl, python) {
  const directory = join(HOME, ENDPOINT);
  const envFile = join(directory, '.env');
  const configured = existsSync(join(directory, 'config.yaml'));
  if (!configured) {
    await command(AGENT, ['configure', ENDPOINT, '--hub-url', hubUrl, '--python', python]);
  }
  // `agent configure` writes the file with everything in it commented out.
  const hasSecret =
    existsSync(envFile) && /^OUTPOST_CLIENT_SECRET=./m.test(readFileSync(envFile, 'utf8'));
  if (!hasSecret) {
    await command(HUB, [
      'client',
      'create',
      `${ENDPOINT}-${process.pid}-${Date.now()}`,
      '--write-env',
      envFile,
    ]);
  }
  const values = Object.fromEntries(
    readFileSync(envFile, 'utf8')
      .split('\n')
      .filter((line) => line.includes('=') && !line.startsWith('#'))
      .map((line) => [
        line.slice(0, line.indexOf('=')),
        line.slice(line.indexOf('=') + 1).replace(/^["']|["']$/g, ''),
      ]),
  );
  return { clientId: values.OUTPOST_CLIENT_ID, clientSecret: values.OUTPOST_CLIENT_SECRET };
}

async function startAgent() {
  const status = await command(AGENT, ['status', ENDPOINT], { allowFailure: true });
  if (status.state === 'online') {
    return status.endpoint_id;
  }
  const started = await command(AGENT, ['start', ENDPOINT]);
  return started.endpoint_id;
}

/** The tour: each check runs for real and shows what came back. */
async function tour({ hubUrl, endpointId, credentials, venv }) {
  const { Client, Executor } = await import(join(ROOT, 'dist/sdk/index.js'));
  const client = new Client({ hubUrl, ...credentials });
  const executor = new Executor({ client, endpointId });
  const checks = [];
  const check = async (name, title, work) => {
    const line = begin(title);
    try {
      const { note, skipped } = await work(line);
      const ms = skipped === undefined ? line.succeed(note) : line.skip(skipped);
      checks.push({
        name,
        ok: skipped === undefined,
        ms: Math.round(ms),
        ...(skipped !== undefined && { skipped }),
      });
    } catch (error) {
      const ms = line.fail(error.message.split('\n')[0]);
      checks.push({ name, ok: false, ms: Math.round(ms), error: error.message });
    }
  };
  const expect = (actual, expected) => {
    if (actual !== expected) {
      throw new Error(`expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
    }
  };
  try {
    await check('javascript', 'a JavaScript function', async () => {
      const sum = await executor.submit((a, b) => a + b, 20, 22);
      expect(sum, 42);
      return { note: '(a, b) => a + b   of 20 and 22 is 42' };
    });
    await check('python', 'a Python function', async () => {
      const source =
        'def version(name):\n    import sys\n    return f"{name} {sys.version_info[0]}.{sys.version_info[1]}"\n';
      const answer = await executor.submitToRegisteredFunction(
        await client.registerPythonFunction(source),
        ['Python'],
      );
      if (!/^Python 3\.\d+$/.test(answer)) {
        throw new Error(`unexpected answer ${JSON.stringify(answer)}`);
      }
      return { note: `version("Python") is "${answer}"` };
    });
    await check('exception', 'a function that raises', async () => {
      const source = 'def divide(a, b):\n    return a / b\n';
      const divide = await client.registerPythonFunction(source);
      const error = await executor.submitToRegisteredFunction(divide, [1, 0]).then(
        () => undefined,
        (reason) => reason,
      );
      expect(error?.type, 'ZeroDivisionError');
      return { note: `divide(1, 0) raises ${error.type}: ${error.remoteMessage}` };
    });
    await check('batch', `a batch of ${BATCH_COUNT} tasks`, async (line) => {
      const begun = performance.now();
      let done = 0;
      const futures = Array.from({ length: BATCH_COUNT }, (_, n) =>
        executor.submit((x) => x * x, n),
      );
      const squares = await Promise.all(
        futures.map(async (future) => {
          const square = await future;
          done += 1;
          if (done % 50 === 0) {
            line.progress(`${'█'.repeat(done / 50)}${'·'.repeat(20 - done / 50)} ${done}`);
          }
          return square;
        }),
      );
      squares.forEach((square, n) => expect(square, n * n));
      return { note: `${Math.round((BATCH_COUNT / (performance.now() - begun)) * 1000)} tasks/s` };
    });
    await check(
      'globus-sdk',
      'the unmodified Globus SDK',
      async () => await globusCheck({ hubUrl, endpointId, credentials, venv }),
    );
  } finally {
    await executor.shutdown();
  }
  return checks;
}

const GLOBUS_PROGRAM = `
import sys
from globus_compute_sdk import Executor

def greet(name):
    import platform
    return f"hello {name}, from Python {platform.python_version()}"

with Executor(endpoint_id=sys.argv[1]) as executor:
    print(executor.submit(greet, "Globus").result(timeout=60))
`;

async function globusCheck({ hubUrl, endpointId, credentials, venv }) {
  if (venv.problem !== undefined) {
    return { skipped: `pip cannot install globus-compute-sdk: ${venv.problem.split('\n')[0]}` };
  }
  if (new URL(hubUrl).port !== SDK_PORT) {
    return {
      skipped: `that SDK knows only localhost:${SDK_PORT}, and the hub listens on ${hubUrl}`,
    };
  }
  const env = {
    ...process.env,
    GLOBUS_SDK_ENVIRONMENT: 'local',
    GLOBUS_SDK_SERVICE_URL_AUTH: `${hubUrl.replace('127.0.0.1', 'localhost')}/`,
    GLOBUS_COMPUTE_CLIENT_ID: credentials.clientId,
    GLOBUS_COMPUTE_CLIENT_SECRET: credentials.clientSecret,
    GLOBUS_COMPUTE_USER_DIR: join(HOME, '.hub', 'globus_compute'),
  };
  const text = await run(venv.python, ['-W', 'ignore', '-c', GLOBUS_PROGRAM, endpointId], { env });
  const answer = text.trim().split('\n').at(-1) ?? '';
  if (!answer.startsWith('hello Globus')) {
    throw new Error(`unexpected answer ${JSON.stringify(answer)}`);
  }
  return { note: `globus-compute-sdk ${venv.version}: "${answer}"` };
}

function explain(hubUrl) {
  const lines = [
    ['npx agent status quickstart', 'state, tasks, connections'],
    ['npx agent logs quickstart --follow', 'what it does'],
    ['npx agent list', 'endpoints of this machine'],
    ['npx hub status', `the hub at ${hubUrl}; API at ${hubUrl}/openapi.json`],
    ['npx hub client create NAME', 'credentials for another person or machine'],
    ['npm run quickstart -- --stop', 'stop agent and hub; their data stays'],
  ];
  console.log(`\n${bold('Look around')}`);
  for (const [text, meaning] of lines) {
    console.log(`  ${text.padEnd(36)} ${dim(meaning)}`);
  }
  console.log(`  ${dim(`Everything lies under ${HOME}. README.md has the tour in code.`)}`);
}

async function stopAll() {
  await step('stop the agent', async () => {
    await command(AGENT, ['stop', ENDPOINT], { allowFailure: true });
  });
  await step('stop the hub', stopHub);
}

async function main() {
  const options = readOptions();
  if (options.help) {
    console.log('usage: npm run quickstart -- [--yes] [--once] [--json] [--stop]');
    return 0;
  }
  if (options.stop) {
    await stopAll();
    return 0;
  }
  const ownServers = await prepare(options);
  const outcome = options.once ? await once(ownServers) : await startAndTour(ownServers);
  if (!options.once) {
    explain(outcome.hubUrl);
  }
  return report(options, outcome);
}

/** As {@link startAndTour}, with nothing left running, also when a step failed. */
async function once(ownServers) {
  try {
    return await startAndTour(ownServers);
  } finally {
    console.log('');
    await stopAll();
  }
}

/** Starts hub and agent, and runs functions. */
async function startAndTour(ownServers) {
  const begun = performance.now();
  // Begun first, since pip takes longest; waited for only where it is needed.
  const installing = ensureSdkVenv(ROOT, { upgrade: false });
  const hubUrl = await step('hub with broker and database', async () => await startHub(ownServers));
  const venv = await step('globus-compute-sdk for Python', async () => await installing);
  const credentials = await configureEndpoint(hubUrl, venv.python ?? '/usr/bin/python3');
  const endpointId = await step('agent', startAgent);
  const readyMs = Math.round(performance.now() - begun);
  console.log(`\n${bold('Running functions on this machine')}`);
  const checks = await tour({ hubUrl, endpointId, credentials, venv });
  return { hubUrl, checks, readyMs };
}

/** Says how it went; returns the exit code. */
function report({ json }, { checks, readyMs }) {
  const ok = checks.every((check) => check.ok || check.skipped !== undefined);
  if (json) {
    console.log(JSON.stringify({ ok, checks, readyMs }));
  }
  return ok ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof Stop)) {
    throw error;
  }
  console.error(`\n${error.message}`);
  process.exitCode = error.exitCode;
}
