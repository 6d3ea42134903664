/**
 * An endpoint that somebody pauses, drains and resumes, with the commands and a real hub: tasks wait, none fails, none runs twice, and
 * what was asked for outlives the process.
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { Client, Executor } from '../../src/sdk/index.ts';
import type { ComputeFuture } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { Stack } from '../support/stack.ts';

interface Mode {
  readonly state: string;
  readonly since: string | null;
  readonly by: string | null;
  readonly reason: string | null;
}

interface Reply {
  readonly mode: Mode;
  readonly changed: boolean;
  readonly tasks: { running: number; waiting: number; handed_back: number };
}

describe('pausing, draining and resuming an endpoint', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;
  let executor: Executor;

  before(async () => {
    stack = await Stack.start({ agent: { 'python-interpreters': 0, 'javascript-threads': 1 } });
    const { hubUrl, client: credentials, endpointId } = stack;
    client = new Client({
      hubUrl,
      clientId: credentials.id,
      clientSecret: credentials.secret,
    });
    executor = new Executor({ client, endpointId });
  });

  afterEach(async () => {
    await stack.agentCommand('resume', 'default');
  });

  after(async () => {
    await executor.shutdown({ wait: false, cancelPending: true });
    await stack.stop();
  });

  /** Appends its name to a file, then works until it is let go, if it has to be. */
  function submit(name: string, isHeld = true): ComputeFuture<string> {
    return executor.submit(
      async (path: string, line: string, waits: boolean) => {
        const { appendFile, access } = await import('node:fs/promises');
        await appendFile(path, `${line}\n`);
        for (let isOpen = !waits; !isOpen;) {
          isOpen = await access(`${path}.${line}`).then(
            () => true,
            () => false,
          );
          await new Promise((resolve) => {
            setTimeout(resolve, 20);
          });
        }
        return line;
      },
      join(stack.home, 'ran'),
      name,
      isHeld,
    );
  }

  async function letGo(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      await writeFile(join(stack.home, `ran.${name}`), '');
    }
  }

  async function ran(): Promise<string[]> {
    try {
      return (await readFile(join(stack.home, 'ran'), 'utf8')).trim().split('\n');
    } catch {
      return [];
    }
  }

  async function json<T>(...args: string[]): Promise<T> {
    const outcome = await stack.agentCommand(...args, '--json');
    assert.equal(outcome.code, 0, `${args.join(' ')}: ${outcome.stderr}`);
    return JSON.parse(outcome.stdout) as T;
  }

  async function stateAtHub(future: ComputeFuture<string>): Promise<string | undefined> {
    const { taskId } = future;
    return taskId === undefined ? undefined : (await client.hub.task(taskId)).status;
  }

  async function untilRunning(name: string): Promise<void> {
    await eventually(async () => {
      assert.ok((await ran()).includes(name));
    });
  }

  it('lets a paused endpoint finish what it holds, and new tasks wait', async () => {
    const names = ['held-1', 'held-2'];
    const held = names.map((name) => submit(name));
    await untilRunning('held-1');
    await eventually(async () => {
      const { tasks } = await json<{ tasks: { running: number; waiting: number } }>('status');
      assert.equal(tasks.running + tasks.waiting, 2);
    });
    const reply = await json<Reply>('pause', '--reason', 'disk is being replaced');
    assert.deepEqual(
      [reply.changed, reply.mode.state, reply.mode.reason],
      [true, 'paused', 'disk is being replaced'],
    );
    assert.ok(reply.mode.by !== null && reply.mode.since !== null);
    const late = submit('late', false);
    await letGo(...names);
    assert.deepEqual(await Promise.all(held), names);
    // The endpoint is online all the same, and says why it takes nothing.
    await eventually(async () => {
      const status = await client.hub.endpointStatus(stack.endpointId);
      assert.equal(status.status, 'online');
      assert.deepEqual((status.details?.['mode'] as Mode | undefined)?.state, 'paused');
    });
    assert.equal(await stateAtHub(late), 'waiting-for-ep');
    const text = (await stack.agentCommand('status')).stdout;
    assert.match(text, /State: +online, paused/);
    assert.match(text, /Mode: +paused since .* by .*: disk is being replaced/);
    assert.match((await stack.agentCommand('list')).stdout, /online, paused/);
    assert.equal((await json<Reply>('pause')).changed, false);
    assert.ok(!(await ran()).includes('late'));
    assert.equal((await json<Reply>('resume')).mode.state, 'running');
    assert.equal(await late, 'late');
  });

  it('hands back what has not begun, and returns when nothing runs; twice over', async () => {
    const names = Array.from({ length: 8 }, (_, index) => `batch-${index}`);
    const futures = names.map((name) => submit(name));
    for (const round of [1, 2]) {
      await eventually(async () => {
        const { tasks } = await json<{ tasks: { running: number; waiting: number } }>('status');
        assert.ok(tasks.running === 1 && tasks.waiting > 0 && (await ran()).length >= round);
      });
      const running = (await ran()).filter((name) => name.startsWith('batch')).at(-1) ?? '';
      const draining = json<Reply>('drain', '--timeout', '40');
      await eventually(async () => {
        const { mode, tasks } = await json<Reply>('status');
        // Before the running one has ended.
        assert.deepEqual([mode.state, tasks.running, tasks.waiting], ['draining', 1, 0]);
      });
      await letGo(running);
      const reply = await draining;
      assert.deepEqual(
        [reply.mode.state, reply.tasks.running, reply.tasks.waiting],
        ['drained', 0, 0],
      );
      assert.ok(reply.tasks.handed_back > 0);
      const states = await Promise.all(futures.map(stateAtHub));
      assert.equal(states.filter((state) => state === 'waiting-for-ep').length, 8 - round);
      assert.equal((await client.hub.endpointStatus(stack.endpointId)).status, 'online');
      await json<Reply>('resume');
    }
    await letGo(...names);
    assert.deepEqual(await Promise.all(futures), names);
    const all = await ran();
    for (const name of names) {
      assert.equal(all.filter((line) => line === name).length, 1, `${name} ran once`);
    }
  });

  it('stays drained across a restart, and takes nothing until it is resumed', async () => {
    await json<Reply>('drain', '--reason', 'new kernel');
    await stack.stopAgent('default');
    const stopped = await json<{ state: string; mode: Mode }>('status');
    assert.deepEqual([stopped.state, stopped.mode.state], ['stopped', 'drained']);
    const waiting = submit('after-restart', false);
    await stack.startAgent('default');
    const { mode, state } = await json<{ state: string; mode: Mode }>('status');
    assert.deepEqual([state, mode.state, mode.reason], ['online', 'drained', 'new kernel']);
    assert.equal(await stateAtHub(waiting), 'waiting-for-ep');
    const outcome = await stack.agentCommand('resume');
    assert.match(outcome.stdout, /takes tasks again/);
    assert.equal(await waiting, 'after-restart');
  });

  it('gives up waiting with 75 and goes on draining; a resume ends that', async () => {
    const long = submit('long');
    await untilRunning('long');
    const outcome = await stack.agentCommand('drain', '--timeout', '0.5');
    assert.equal(outcome.code, 75, outcome.stderr);
    assert.match(outcome.stderr, /still drains after 0\.5 s \(1 task runs\)/);
    assert.equal((await json<{ mode: Mode }>('status')).mode.state, 'draining');
    const now = await json<Reply>('drain', '--timeout', '0');
    assert.deepEqual([now.changed, now.mode.state], [false, 'draining']);
    const watching = stack.agentCommand('drain', '--reason', 'watched');
    await eventually(async () => {
      assert.equal((await json<{ mode: Mode }>('status')).mode.reason, 'watched');
    });
    await json<Reply>('resume');
    const watched = await watching;
    assert.equal(watched.code, 69, watched.stderr);
    assert.match(watched.stderr, /drains no longer: .* has asked for running meanwhile/);
    await letGo('long');
    await json<Reply>('resume');
    assert.equal(await submit('afterwards', false), 'afterwards');
    assert.equal(await long, 'long');
  });

  it('has nobody to ask when the endpoint does not run', async () => {
    await stack.configureAgent('other');
    for (const command of ['pause', 'drain', 'resume', 'reload']) {
      const outcome = await stack.agentCommand(command, 'other', '--json');
      assert.equal(outcome.code, 69, outcome.stderr);
      const { error } = JSON.parse(outcome.stdout) as { error: { code: string } };
      assert.equal(error.code, 'NOT_RUNNING');
    }
    assert.equal((await stack.agentCommand('drain', '--timeout', '-1')).code, 64);
  });
});
