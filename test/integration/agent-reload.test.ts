/**
 * Settings that change while an agent runs, by SIGHUP and by `agent reload`; what it does by the clock and by itself: maintenance
 * windows and stopping when idle; and the loss of its terminal. With real signals to a real agent.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Client, TaskExecutionError } from '../../src/sdk/index.ts';
import type { RegisteredFunction } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { untilFile } from '../support/held-function.ts';
import { Stack, runProgram } from '../support/stack.ts';

const AGENT = fileURLToPath(new URL('../../src/cli/agent.js', import.meta.url));

interface Report {
  readonly ok: boolean;
  readonly applied: readonly { key: string; from: unknown; to: unknown }[];
  readonly restart_needed: readonly { key: string }[];
  readonly problems: readonly { key: string; source: string }[];
}

interface Status {
  readonly state: string;
  readonly pid: number | null;
  readonly lease_epoch: number | null;
  readonly tasks: { readonly running: number } | null;
  readonly mode: { readonly state: string; readonly by: string | null };
  readonly jobs: readonly { name: string; schedule: string; outcome: string | null }[];
  readonly reload: Report | null;
}

/** Runs an agent on a terminal of its own, and closes that when the agent is online; prints how it ended. */
const ON_A_TERMINAL = `
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b''
while b'endpoint is online' not in seen:
    seen += os.read(terminal, 65536)
os.close(terminal)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))
`;

describe('an agent whose settings change', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;
  let configPath: string;
  let original: string;
  let sleeps: RegisteredFunction<[number], string>;
  let other: RegisteredFunction<[], string>;

  before(async () => {
    stack = await Stack.start({
      agent: { 'python-interpreters': 0, 'javascript-threads': 1, 'max-retries': 1 },
    });
    client = new Client({
      hubUrl: stack.hubUrl,
      clientId: stack.client.id,
      clientSecret: stack.client.secret,
    });
    sleeps = await client.registerFunction(async (ms: number) => {
      await new Promise((resolve) => {
        setTimeout(resolve, ms);
      });
      return 'slept';
    });
    other = await client.registerFunction(() => 'other');
    configPath = join(stack.home, '.outpost', 'default', 'config.yaml');
    original = await readFile(configPath, 'utf8');
  });

  afterEach(async () => {
    await writeFile(configPath, original);
    if ((await status()).pid !== null) {
      await stack.agentCommand('reload');
    }
  });

  after(async () => {
    await stack.stop();
  });

  async function status(): Promise<Status> {
    return JSON.parse((await stack.agentCommand('status', '--json')).stdout) as Status;
  }

  /** Sets these, whatever stood there before. */
  async function configure(settings: Readonly<Record<string, unknown>>): Promise<void> {
    const kept = original
      .split('\n')
      .filter((line) => !Object.keys(settings).some((key) => line.startsWith(`${key}:`)));
    const added = Object.entries(settings).map(
      ([key, value]) => `${key}: ${JSON.stringify(value)}`,
    );
    await writeFile(configPath, [...kept, ...added, ''].join('\n'));
  }

  async function reload(): Promise<Report> {
    const outcome = await stack.agentCommand('reload', '--json');
    assert.equal(outcome.code, 0, outcome.stderr);
    return JSON.parse(outcome.stdout) as Report;
  }

  async function resultOf(taskId: string): Promise<string> {
    try {
      return String(await client.waitForResult(taskId, { timeoutMs: 60_000 }));
    } catch (error) {
      assert.ok(error instanceof TaskExecutionError, String(error));
      return error.code;
    }
  }

  it('applies at SIGHUP what can be applied, while tasks run, and names the rest', async () => {
    const running = await client.run(sleeps, stack.endpointId, [6_000]);
    await eventually(async () => {
      assert.equal((await status()).tasks?.running, 1);
    });
    await configure({ task_timeout_s: 1, log_level: 'trace', reserve: 7 });
    process.kill(await stack.agentPid('default'), 'SIGHUP');
    await eventually(async () => {
      const { reload: report } = await status();
      assert.deepEqual(
        [
          report?.ok,
          report?.applied.map(({ key }) => key),
          report?.restart_needed.map(({ key }) => key),
        ],
        [true, ['task_timeout_s', 'log_level'], ['reserve']],
      );
    });
    assert.match(await stack.agentLog('default'), /"applied":\["task_timeout_s","log_level"\]/);
    const late = await client.run(sleeps, stack.endpointId, [20_000]);
    // What ran before keeps the limits with which it was begun.
    assert.equal(await resultOf(running), 'slept');
    assert.equal(await resultOf(late), 'TASK_TIMED_OUT');
    await eventually(async () => {
      assert.match(await stack.agentLog('default'), /"level":"trace".*"heartbeat"/);
    });
    assert.match(
      (await stack.agentCommand('status')).stdout,
      /reserve changed, waiting for: agent restart/,
    );
    // Said once more, because it still waits.
    const again = await reload();
    assert.deepEqual(
      [again.applied, again.restart_needed.map(({ key }) => key)],
      [[], ['reserve']],
    );
  });

  it('goes on with the old settings when the new ones are wrong, and names every problem', async () => {
    const before = await stack.agentPid('default');
    await configure({ task_timeout_s: -1, log_level: 'loud', max_retries: 5 });
    process.kill(before, 'SIGHUP');
    await eventually(async () => {
      const { reload: report } = await status();
      assert.equal(report?.ok, false);
      assert.deepEqual(report.problems.map(({ key }) => key).sort(), [
        'log_level',
        'task_timeout_s',
      ]);
    });
    assert.match(
      await stack.agentLog('default'),
      /the settings are wrong, going on with those from before/,
    );
    assert.match((await stack.agentCommand('status')).stdout, /with 2 problems: the agent goes on/);
    const outcome = await stack.agentCommand('reload', '--json');
    assert.equal(outcome.code, 78);
    const { error } = JSON.parse(outcome.stdout) as { error: { problems: { source: string }[] } };
    assert.equal(error.problems.length, 2);
    assert.ok(error.problems.every(({ source }) => source.startsWith(`${configPath}:`)));
    assert.equal(await resultOf(await client.run(sleeps, stack.endpointId, [1])), 'slept');
    assert.equal(await stack.agentPid('default'), before);
    await writeFile(configPath, original);
    assert.deepEqual((await reload()).applied, []);
  });

  it('tells the hub which functions are allowed from now on', async () => {
    await configure({ allowed_functions: [sleeps.id], display_name: 'Renamed' });
    assert.deepEqual(
      (await reload()).applied.map(({ key }) => key),
      ['display_name', 'allowed_functions'],
    );
    await eventually(async () => {
      const document = await client.hub.endpoint(stack.endpointId);
      assert.equal(document['display_name'], 'Renamed');
      await assert.rejects(client.run(other, stack.endpointId, []), /not.*allow|allow/i);
    });
    assert.equal(await resultOf(await client.run(sleeps, stack.endpointId, [1])), 'slept');
  });

  it('keeps maintenance windows, and shows what it does by the clock', async () => {
    // A window of three seconds in every six.
    await configure({ drain_at: '*/6 * * * * *', resume_at: '3-59/6 * * * * *' });
    await reload();
    const seen = new Set<string>();
    await eventually(async () => {
      const { mode, jobs } = await status();
      seen.add(`${mode.state} by ${mode.by ?? 'nobody'}`);
      assert.ok(
        seen.has('drained by schedule') && seen.has('running by schedule'),
        [...seen].join(),
      );
      const outcomes = jobs.map(({ name, outcome }) => `${name}: ${outcome ?? 'never'}`);
      assert.ok(outcomes.includes('drain for maintenance: ok'), outcomes.join());
      assert.ok(outcomes.includes('resume after maintenance: ok'), outcomes.join());
    });
    assert.equal(await resultOf(await client.run(sleeps, stack.endpointId, [1])), 'slept');
    assert.match(
      (await stack.agentCommand('status')).stdout,
      /By the clock: +clean-up, at 17 3 \* \* \*: next /,
    );
  });

  it('takes the settings over also when the maintenance window that they open cannot be kept', async () => {
    // Of the test before, a window may still have been open.
    await stack.agentCommand('resume');
    const modePath = join(stack.home, '.outpost', 'default', 'mode.json');
    await rm(modePath, { force: true });
    // Nothing can be put in its place.
    await mkdir(join(modePath, 'in-the-way'), { recursive: true });
    await configure({
      drain_at: '* * * * * *',
      resume_at: '0 0 1 1 *',
      display_name: 'Renamed again',
    });
    assert.equal((await reload()).ok, true);
    await eventually(async () => {
      const document = await client.hub.endpoint(stack.endpointId);
      assert.equal(document['display_name'], 'Renamed again');
    });
    await configure({});
    await reload();
    await rm(modePath, { recursive: true });
    assert.equal((await status()).mode.state, 'running');
  });

  it('finds at its start that a window began while it was down', async () => {
    await stack.agentCommand('resume');
    await stack.stopAgent('default');
    const now = new Date();
    // Began with this year, and ends with it.
    await configure({ drain_at: '0 0 1 1 *', resume_at: '59 23 31 12 *' });
    const modePath = join(stack.home, '.outpost', 'default', 'mode.json');
    const since = new Date(now.getFullYear() - 1, 5, 1).toISOString();
    await writeFile(modePath, JSON.stringify({ mode: 'running', since, by: 'anna', reason: null }));
    await stack.startAgent('default');
    const { mode } = await status();
    assert.equal(mode.by, 'schedule');
    assert.match(mode.state, /^drain(?:ing|ed)$/);
    await stack.agentCommand('resume');
    await stack.agentCommand('reload');
    assert.equal((await status()).mode.state, 'running');
  });

  it('takes nothing over while it stops, which would cut it off from its last results', async () => {
    const waits = await client.registerFunction(untilFile);
    await configure({ drain_grace_s: 300 });
    assert.equal((await reload()).ok, true);
    const sign = join(stack.home, 'go-on');
    const taskId = await client.run(waits, stack.endpointId, [sign, 'waited']);
    await eventually(async () => {
      assert.equal((await status()).tasks?.running, 1);
    });
    const { lease_epoch: epoch } = await status();
    const stopped = stack.agentCommand('stop', '--timeout', '100');
    await eventually(async () => {
      assert.equal((await status()).state, 'draining');
    });
    await configure({ display_name: 'Too late' });
    const outcome = await stack.agentCommand('reload');
    assert.notEqual(outcome.code, 0, outcome.stdout);
    assert.match(outcome.stderr, /takes no settings over while it is draining/);
    assert.equal((await status()).lease_epoch, epoch);
    await writeFile(sign, '');
    assert.equal((await stopped).code, 0);
    assert.equal(await resultOf(taskId), 'waited');
    await stack.startAgent('default');
  });

  it('drains and ends when its terminal is gone', async () => {
    await stack.stopAgent('default');
    const outcome = await runProgram(
      '/usr/bin/python3',
      ['-c', ON_A_TERMINAL, process.execPath, AGENT, 'start', 'default', '--foreground'],
      { env: { ...stack.agentEnvironment, TERM: 'xterm' }, limitMs: 60_000 },
    );
    assert.equal(outcome.stdout.trim(), '0', outcome.stderr);
    assert.equal(existsSync(join(stack.home, '.outpost', 'default', 'agent.lock')), false);
    await stack.startAgent('default');
  });

  it('stops by itself when it has had nothing to do for long enough', async () => {
    assert.equal(await resultOf(await client.run(sleeps, stack.endpointId, [1])), 'slept');
    await configure({ idle_heartbeats_soft: 2 });
    await reload();
    await eventually(async () => {
      assert.equal((await status()).state, 'stopped');
    });
    const log = await stack.agentLog('default');
    assert.match(
      log,
      /no task for 2 heartbeats \(idle_heartbeats_soft\).*idle: the endpoint stops by itself/,
    );
    assert.match(log, /"msg":"stopped"/);
    assert.equal((await client.hub.endpointStatus(stack.endpointId)).status, 'offline');
  });
});
