/**
 * The agent's life at its edges, with real signals to a real `agent start --foreground`: each step of the signal ladder with its exit
 * code, what becomes of the tasks, and that nothing is alive afterwards, whichever way it ends.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { agentCookie, findLeftovers, sweepLeftovers } from '../../src/agent/leftovers.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { Client, TaskExecutionError } from '../../src/sdk/index.ts';
import type { RegisteredFunction } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { isAlive } from '../support/processes.ts';
import { Stack } from '../support/stack.ts';

const AGENT = fileURLToPath(new URL('../../src/cli/agent.js', import.meta.url));

/** Leaves a daemon behind, then works for a while. */
const WORKS = `def works(path, seconds, stubborn):
    import os, signal, time
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(300)
        os._exit(0)
    os.wait()
    with open(path, 'a') as file:
        file.write('x')
    time.sleep(seconds)
    return 'worked'
`;

/** Appends a line when it runs. */
const MARKS = `def marks(path, name):
    import os, time
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (name + '\\n').encode())
    os.close(descriptor)
    time.sleep(0.02)
    return name
`;

interface Running {
  readonly child: ChildProcess;
  readonly log: () => string;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

describe('the life of an agent', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;
  let works: RegisteredFunction;
  let cookie: string;
  let endpointId: string;
  let runCount = 0;
  let running: Running | undefined;

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    client = new Client({
      hubUrl: stack.hubUrl,
      clientId: stack.client.id,
      clientSecret: stack.client.secret,
      throttlingEnabled: false,
    });
    works = await client.registerPythonFunction(WORKS);
    await stack.configureAgent('default', {
      python: '/usr/bin/python3',
      'python-interpreters': 1,
      'javascript-threads': 0,
      'kill-grace-s': 5,
      'drain-grace-s': 60,
    });
    // Registers the endpoint.
    endpointId = await stack.startAgent('default');
    await stack.stopAgent('default');
    cookie = await agentCookie(join(stack.home, '.outpost', 'default'));
  });

  afterEach(async () => {
    const last = running;
    running = undefined;
    last?.child.kill('SIGKILL');
    await last?.ended;
    await sweepLeftovers(cookie, systemClock, silentLogger);
  });

  after(async () => {
    await stack.stop();
  });

  async function startForeground(...flags: string[]): Promise<Running> {
    const child = spawn(process.execPath, [AGENT, 'start', 'default', '--foreground', ...flags], {
      env: stack.agentEnvironment,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    running = {
      child,
      log: () => text,
      ended: once(child, 'close').then(([code, signal]) => ({
        code: code as number | null,
        signal: signal as NodeJS.Signals | null,
      })),
    };
    await eventually(() => {
      assert.match(text, /endpoint is online/, text);
    });
    return running;
  }

  /** Submits a task and waits until it runs. */
  async function startTask(seconds: number, isStubborn = false): Promise<string> {
    runCount += 1;
    const path = join(stack.home, `run-${runCount}`);
    const taskId = await client.run(works, endpointId, [path, seconds, isStubborn]);
    await eventually(() => {
      assert.ok(existsSync(path));
    });
    return taskId;
  }

  async function failureCode(taskId: string): Promise<string> {
    try {
      await client.waitForResult(taskId, { timeoutMs: 60_000 });
    } catch (error) {
      assert.ok(error instanceof TaskExecutionError, String(error));
      return error.code;
    }
    return assert.fail('the task succeeded');
  }

  /** What was killed needs a moment to be gone. */
  async function assertNothingAlive(): Promise<void> {
    await eventually(() => {
      assert.deepEqual(findLeftovers(cookie), []);
    });
  }

  it('ends with 0 at the first SIGTERM, after what runs has finished', async () => {
    const { child, ended, log } = await startForeground();
    const taskId = await startTask(1.5);
    child.kill('SIGTERM');
    await eventually(() => {
      assert.match(log(), /stopping: no new tasks/);
    });
    assert.deepEqual(await ended, { code: 0, signal: null });
    await assertNothingAlive();
    assert.equal(await client.waitForResult(taskId, { timeoutMs: 60_000 }), 'worked');
    assert.ok(!existsSync(join(stack.home, '.outpost', 'default', 'agent.lock')));
  });

  it('cancels what runs at the second signal, tells the submitter, and ends with 0', async () => {
    const { child, ended, log } = await startForeground();
    const taskId = await startTask(60);
    child.kill('SIGTERM');
    await eventually(() => {
      assert.match(log(), /stopping: no new tasks/);
    });
    assert.equal(child.exitCode, null);
    child.kill('SIGINT');
    assert.deepEqual(await ended, { code: 0, signal: null });
    await assertNothingAlive();
    assert.equal(await failureCode(taskId), 'AGENT_STOPPED');
  });

  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const) {
    it(`exits at once with ${code} when the third signal is ${signal}, with everything killed`, async () => {
      // So that nothing but the third signal ends it.
      const { child, ended, log } = await startForeground('--kill-grace-s', '60');
      const taskId = await startTask(60, true);
      child.kill('SIGTERM');
      await eventually(() => {
        assert.match(log(), /stopping: no new tasks/);
      });
      child.kill('SIGINT');
      await eventually(() => {
        assert.match(log(), /"rung":2/);
      });
      child.kill(signal);
      assert.deepEqual(await ended, { code, signal: null });
      await assertNothingAlive();
      // The next one goes on from its journal, and says what became of the task.
      const next = await startForeground();
      assert.match(await failureCode(taskId), /^AGENT_(?:STOPPED|RESTARTED)$/);
      next.child.kill('SIGTERM');
      assert.equal((await next.ended).code, 0);
    });
  }

  it('starts with cancelling at SIGQUIT and logs its status', async () => {
    const { child, ended, log } = await startForeground();
    const taskId = await startTask(60);
    child.kill('SIGQUIT');
    assert.deepEqual(await ended, { code: 0, signal: null });
    await assertNothingAlive();
    assert.match(log(), /"status":\{"name":"default".*status at SIGQUIT/);
    assert.equal(await failureCode(taskId), 'AGENT_STOPPED');
  });

  it('reads its settings again at SIGHUP, and goes on', async () => {
    const { child, ended, log } = await startForeground();
    child.kill('SIGHUP');
    await eventually(() => {
      assert.match(log(), /read the settings again/);
    });
    const taskId = await startTask(0);
    assert.equal(await client.waitForResult(taskId, { timeoutMs: 60_000 }), 'worked');
    child.kill('SIGTERM');
    assert.equal((await ended).code, 0);
  });

  it('ends the stopped worker host of an agent that was killed before it reads what had begun', async () => {
    const marks = await client.registerPythonFunction(MARKS);
    const path = join(stack.home, 'marks');
    const markers = async (): Promise<string[]> =>
      existsSync(path) ? (await readFile(path, 'utf8')).trimEnd().split('\n') : [];
    const first = await startForeground();
    const names = Array.from({ length: 100 }, (_unused, index) => `task-${index}`);
    const taskIds = await Promise.all(
      names.map(async (name) => await client.run(marks, endpointId, [path, name])),
    );
    await eventually(async () => {
      assert.ok((await markers()).length >= 10);
    });
    const status = await stack.agentCommand('status', 'default', '--json');
    const { worker_host_pid: hostPid } = JSON.parse(status.stdout) as { worker_host_pid: number };
    process.kill(hostPid, 'SIGSTOP');
    first.child.kill('SIGKILL');
    await first.ended;
    assert.ok(isAlive(hostPid), 'it cannot have noticed');
    const next = await startForeground();
    assert.ok(!isAlive(hostPid));
    assert.match(next.log(), new RegExp(`"pid":${hostPid},.*killed a process`));
    const outcomes = await Promise.all(
      taskIds.map(async (taskId) => {
        try {
          return await client.waitForResult(taskId, { timeoutMs: 60_000 });
        } catch (error) {
          return error instanceof TaskExecutionError ? error.code : String(error);
        }
      }),
    );
    const ran = await markers();
    assert.equal(new Set(ran).size, ran.length, 'a task ran twice');
    const givenUp = names.filter((_name, index) => outcomes[index] === 'AGENT_RESTARTED');
    assert.deepEqual(
      outcomes.filter((outcome) => outcome !== 'AGENT_RESTARTED'),
      names.filter((name) => !givenUp.includes(name)),
    );
    // What had been handed over ahead of time and had not begun has run in the next host; each of two interpreters may have been about to.
    const notBegun = givenUp.filter((name) => !ran.includes(name));
    assert.ok(notBegun.length <= 2, `given up without having begun: ${notBegun.join(', ')}`);
    next.child.kill('SIGTERM');
    assert.equal((await next.ended).code, 0);
    await assertNothingAlive();
  });
});
