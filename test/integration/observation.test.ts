/** What an operator sees of a running agent from the side: health, metrics, the log, and what tasks print. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { text as readAll } from 'node:stream/consumers';

import { Client, Executor } from '../../src/sdk/index.ts';
import type { ComputeFuture } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { untilFile } from '../support/held-function.ts';
import { testServices } from '../support/services.ts';
import { Stack } from '../support/stack.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';

type Samples = Readonly<Record<string, number>>;
interface Timeline {
  readonly taskId: string;
  readonly phase: string;
  readonly states: readonly { readonly state: string; readonly at: string }[];
}

/** Values of a scrape by their name with labels, as they stand in the text. */
function parseMetrics(text: string): Samples {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return Object.fromEntries(
    lines.map((line) => {
      const blank = line.lastIndexOf(' ');
      return [line.slice(0, blank), Number(line.slice(blank + 1))];
    }),
  );
}

describe('an agent that is looked at', function () {
  this.timeout(240_000);
  let stack: Stack;
  let proxy: TcpProxy;
  let client: Client;
  let executor: Executor;
  let socketPath: string;

  before(async () => {
    proxy = await startTcpProxy({ targetPort: Number(new URL(testServices().amqpUrl).port) });
    const started = await Stack.start({ hubOnly: true });
    stack = started;
    socketPath = join(started.home, 'm.sock');
    await started.configureAgent('default', {
      'metrics-listen': socketPath,
      'amqp-port': proxy.port,
      'javascript-threads': 1,
      'python-interpreters': 1,
      'log-bytes-max': 1024 * 1024,
      'drain-grace-s': 1,
    });
    const endpointId = await started.startAgent('default');
    started.endpointId = endpointId;
    const { hubUrl, client: credentials } = started;
    client = new Client({ hubUrl, clientId: credentials.id, clientSecret: credentials.secret });
    executor = new Executor({ client, endpointId });
  });

  after(async () => {
    await executor.shutdown({ wait: false, cancelPending: true });
    await stack.stop();
    await proxy.close();
  });

  async function ask(path: string): Promise<{ status: number | undefined; text: string }> {
    const asked = request({ socketPath, path, agent: false }).end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    return { status: response.statusCode, text: await readAll(response) };
  }

  async function scrape(): Promise<Samples> {
    return parseMetrics((await ask('/metrics')).text);
  }

  async function agentJson(...args: string[]): Promise<Record<string, unknown>> {
    const { code, stdout, stderr } = await stack.agentCommand(...args, '--json');
    assert.equal(code, 0, `${stdout}${stderr}`);
    return JSON.parse(stdout) as Record<string, unknown>;
  }

  function taskIdOf({ taskId }: ComputeFuture<unknown>): string {
    assert.ok(taskId !== undefined);
    return taskId;
  }

  it('is alive and ready, on a socket that is the owner’s alone', async () => {
    assert.equal((await stat(socketPath)).mode & 0o777, 0o600);
    assert.equal((await ask('/healthz')).status, 200);
    // Online comes first; the worker host starts beside it.
    await eventually(async () => {
      const { status, text } = await ask('/readyz');
      assert.equal(status, 200, text);
      assert.deepEqual(JSON.parse(text), { ready: true, reasons: [], notes: [] });
    });
  });

  it('counts what has run, stage by stage, and leaves no file for tasks that print nothing', async () => {
    const before = await scrape();
    const square = await client.registerPythonFunction('def f(x):\n    return x * x\n', {});
    const good = Array.from({ length: 20 }, (_, index) => executor.submit((n: number) => n, index));
    const bad = Array.from({ length: 3 }, () =>
      executor.submit(() => {
        throw new RangeError('no');
      }),
    );
    const python = [1, 2, 3].map((n) => executor.submitToRegisteredFunction(square, [n]));
    await Promise.allSettled([...good, ...bad, ...python]);
    assert.equal(await python[2], 9);
    await eventually(async () => {
      const now = await scrape();
      const grown = (name: string): number => (now[name] ?? 0) - (before[name] ?? 0);
      const tasks = (state: string, language: string): number =>
        grown(`outpost_tasks_total{state="${state}",language="${language}"}`);
      assert.deepEqual(
        ['received', 'succeeded', 'failed', 'confirmed'].map((state) => tasks(state, 'javascript')),
        [23, 20, 3, 23],
      );
      assert.deepEqual(
        ['received', 'succeeded', 'failed', 'confirmed'].map((state) => tasks(state, 'python')),
        [3, 3, 0, 3],
      );
      assert.equal(grown('outpost_task_failures_total{code="function",language="javascript"}'), 3);
      for (const stage of ['wait', 'run', 'confirm']) {
        const labels = `stage="${stage}",language="javascript"`;
        assert.equal(grown(`outpost_task_stage_seconds_count{${labels}}`), 23, stage);
        assert.ok(grown(`outpost_task_stage_seconds_sum{${labels}}`) > 0, stage);
      }
      assert.equal(now['outpost_tasks_open{state="running"}'], 0);
      assert.equal(now['outpost_results_unconfirmed'], 0);
      assert.equal(now['outpost_journal_tasks'], 0);
      assert.equal(now['outpost_online'], 1);
      assert.equal(now['outpost_worker_places{language="python"}'], 1);
      assert.ok((now['outpost_worker_host_cpu_seconds_total'] ?? 0) > 0);
      assert.ok((now['process_resident_memory_bytes'] ?? 0) > 10_000_000);
      const nowS = Date.now() / 1000;
      assert.ok((now['outpost_auth_expiry_timestamp_seconds'] ?? 0) > nowS);
      assert.ok(nowS - (now['outpost_last_heartbeat_timestamp_seconds'] ?? 0) < 10);
    });
    const directory = join(stack.home, '.outpost', 'default', 'logs', 'tasks');
    await eventually(async () => {
      const [name = ''] = await readdir(directory);
      const lines = (await readFile(join(directory, name), 'utf8')).trimEnd().split('\n');
      assert.deepEqual(
        lines.map((line) => (JSON.parse(line) as { outcome: string }).outcome),
        ['failed', 'failed', 'failed'],
      );
    });
  });

  it('keeps what a task printed, and how it ended, also while the agent is stopped', async () => {
    const loud = await client.registerPythonFunction(
      'def f():\n    import sys\n    print("to stdout")\n    print("to stderr", file=sys.stderr)\n',
      {},
    );
    const dies = await client.registerPythonFunction(
      'def f():\n    import os\n    print("last words", flush=True)\n    os.kill(os.getpid(), 9)\n',
      {},
    );
    const before = await scrape();
    const loudFuture = executor.submitToRegisteredFunction(loud, []);
    await loudFuture;
    const deadFuture = executor.submitToRegisteredFunction(dies, []);
    await assert.rejects(async () => await deadFuture);
    const shown = await agentJson('logs', 'default', '--task', taskIdOf(loudFuture));
    const [attempt] = shown['attempts'] as Record<string, unknown>[];
    assert.deepEqual(
      [attempt?.['stdout'], attempt?.['stderr'], attempt?.['outcome']],
      ['to stdout\n', 'to stderr\n', 'succeeded'],
    );
    const plain = await stack.agentCommand(
      'logs',
      'default',
      '--task',
      taskIdOf(loudFuture),
      '--stream',
      'stderr',
    );
    assert.equal(plain.stdout, 'to stderr\n');
    await eventually(async () => {
      const name = 'outpost_worker_restarts_total{language="python"}';
      assert.equal((await scrape())[name], (before[name] ?? 0) + 1);
    });
    await stack.stopAgent('default');
    const dead = await stack.agentCommand('logs', 'default', '--task', taskIdOf(deadFuture));
    assert.match(dead.stdout, /^Outcome: +failed: WORKER_EXITED: /m);
    assert.match(dead.stdout, /--- stdout\nlast words\n/);
    const unknown = await stack.agentCommand('logs', 'default', '--task', randomUUID());
    assert.equal(unknown.code, 69);
    assert.match(unknown.stderr, /does not run on this host.*GET \/v2\/tasks\//s);
    await stack.startAgent('default');
  });

  it('tells the way of an open task, and of one that is over or was never here what it knows', async () => {
    const gate = join(stack.home, 'gate');
    const future = executor.submit(untilFile, gate, null);
    const taskId = await eventually(async () => {
      const { total, tasks } = await agentJson('tasks', 'default');
      const [task] = tasks as Timeline[];
      assert.equal(total, 1);
      assert.equal(task?.phase, 'running');
      return task.taskId;
    });
    assert.equal(taskId, taskIdOf(future));
    const task = (await agentJson('tasks', 'default', '--task', taskId)) as unknown as Timeline;
    assert.deepEqual(
      task.states.map(({ state }) => state),
      ['received', 'running'],
    );
    const times = task.states.map(({ at }) => Date.parse(at));
    assert.ok(
      (times[0] ?? 0) <= (times[1] ?? 0) && Math.abs((times[1] ?? 0) - Date.now()) < 20_000,
    );
    const logs = await stack.agentCommand('logs', 'default', '--task', taskId);
    assert.equal(logs.code, 0);
    assert.match(logs.stderr, /is running/);
    await writeFile(gate, '');
    await future;
    const over = await eventually(async () => {
      const outcome = await stack.agentCommand('tasks', 'default', '--task', taskId);
      assert.equal(outcome.code, 69);
      return outcome;
    });
    assert.match(over.stderr, /result was delivered/);
    const quiet = await stack.agentCommand('logs', 'default', '--task', taskId);
    assert.equal(quiet.code, 0);
    assert.match(quiet.stderr, /printed nothing/);
    const unknown = await stack.agentCommand('tasks', 'default', '--task', randomUUID());
    assert.equal(unknown.code, 69);
    assert.match(unknown.stderr, /has not had it/);
  });

  it('is not ready while the broker does not answer for long, and is again when it does', async () => {
    proxy.stall(true);
    await eventually(async () => {
      const { status, text } = await ask('/readyz');
      assert.equal(status, 503, text);
      const { reasons } = JSON.parse(text) as { reasons: { part: string }[] };
      assert.deepEqual(
        reasons.map(({ part }) => part),
        ['broker'],
      );
    });
    assert.equal((await ask('/healthz')).status, 200);
    proxy.stall(false);
    await eventually(async () => {
      assert.equal((await ask('/readyz')).status, 200);
    });
  });

  it('counts connections that were made again', async () => {
    const before = await scrape();
    proxy.cut();
    await eventually(async () => {
      const now = await scrape();
      for (const session of ['tasks', 'results']) {
        const name = `outpost_broker_reconnects_total{session="${session}"}`;
        assert.ok((now[name] ?? 0) > (before[name] ?? 0), name);
        assert.equal(now[`outpost_broker_session_up{session="${session}"}`], 1);
      }
    });
  });

  it('logs more for a while when told so, and only what is asked for is shown', async () => {
    const path = join(stack.home, '.outpost', 'default', 'logs', 'agent.log');
    const debugLines = async (): Promise<number> =>
      (await readFile(path, 'utf8')).split('"level":"debug"').length - 1;
    assert.equal(await debugLines(), 0);
    const levels = await agentJson('logs', 'default', '--set-level', 'debug', '--for', '10m');
    assert.deepEqual([levels['level'], levels['configured']], ['debug', 'info']);
    assert.ok(Date.parse(String(levels['until'])) > Date.now() + 500_000);
    proxy.cut();
    await eventually(async () => {
      assert.ok((await debugLines()) > 0);
    });
    const shown = await stack.agentCommand('logs', 'default', '--level', 'warn', '--since', '1h');
    assert.match(shown.stdout, / WARN {2}not connected to the broker/);
    assert.doesNotMatch(shown.stdout, / (INFO|DEBUG) /);
    const back = await agentJson('logs', 'default', '--set-level', 'configured');
    assert.deepEqual([back['level'], back['until']], ['info', null]);
    for (const [flags, words] of [
      [['--set-level', 'loud'], /set-level/],
      [['--set-level', 'debug', '--for', 'ever'], /--for ever/],
      [['--since', 'tomorrow'], /--since/],
      [['--task', 'x'], /not the id of a task/],
    ] as const) {
      const outcome = await stack.agentCommand('logs', 'default', ...flags);
      assert.equal(outcome.code, 64, flags.join(' '));
      assert.match(outcome.stderr, words);
    }
  });
});
