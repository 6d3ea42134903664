/** One home on two login nodes: what is started on one of them is seen and steered from the other. Both are UTS namespaces of this host. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import { eventually } from '../support/eventually.ts';
import { isAlive } from '../support/processes.ts';
import { runProgram, Stack } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';

const AGENT = fileURLToPath(new URL('../../src/cli/agent.js', import.meta.url));
const TWO = ['login01', 'login02'] as const;
type LoginNode = (typeof TWO)[number];

interface Status {
  readonly state: string;
  readonly reason: string | null;
  readonly host: string | null;
  readonly lease_epoch: number;
  readonly mode: { readonly state: string; readonly reason: string | null };
  readonly elsewhere: { readonly is_holder: boolean; readonly lease: string } | null;
}

describe('one home on two login nodes', function () {
  this.timeout(240_000);
  let stack: Stack;
  const services: ChildProcess[] = [];

  before(async function () {
    const probe = spawnSync('unshare', ['--uts', 'hostname', 'login01'], { encoding: 'utf8' });
    if (probe.status !== 0) {
      const reason = probe.error?.message ?? probe.stderr.split('\n')[0] ?? '';
      for (const test of this.test?.parent?.tests ?? []) {
        test.title += ` (no second host name, which takes root: ${reason})`;
      }
      this.skip();
    }
    stack = await Stack.start({ hubOnly: true });
    await stack.configureAgent('default', { 'python-interpreters': 0, 'drain-grace-s': 5 });
  });

  after(async () => {
    for (const child of services) {
      child.kill('SIGKILL');
    }
    for (const node of TWO) {
      await on(node, 'stop', '--all', '--timeout', '20');
    }
    await stack.stop();
  });

  /** An agent command on one of the nodes; what is not shared between hosts is each one's own. */
  async function on(node: LoginNode, ...args: string[]): Promise<CommandOutcome> {
    const runtime = join(stack.home, `run-${node}`);
    await mkdir(runtime, { recursive: true, mode: 0o700 });
    const script = 'hostname "$0" && exec "$@"';
    return await runProgram(
      'unshare',
      ['--uts', 'sh', '-c', script, node, process.execPath, AGENT, ...args],
      { env: { ...stack.agentEnvironment, XDG_RUNTIME_DIR: runtime }, limitMs: 60_000 },
    );
  }

  /** The agent as a service manager runs it on one of the nodes. */
  function service(node: LoginNode): { said: () => string; end: () => Promise<number | null> } {
    const script = 'hostname "$0" && exec "$@"';
    const flags = ['start', '--foreground', '--standby'];
    const child = spawn(
      'unshare',
      ['--uts', 'sh', '-c', script, node, process.execPath, AGENT, ...flags],
      { env: { ...stack.agentEnvironment, XDG_RUNTIME_DIR: join(stack.home, `run-${node}`) } },
    );
    services.push(child);
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => (said += text));
    }
    const exited = once(child, 'close') as Promise<[number | null]>;
    return {
      said: () => said,
      end: async () => {
        child.kill('SIGTERM');
        return (await exited)[0];
      },
    };
  }

  async function done(node: LoginNode, ...args: string[]): Promise<string> {
    const outcome = await on(node, ...args);
    const log = outcome.code === 0 ? '' : await stack.agentLog('default');
    assert.equal(outcome.code, 0, `${args.join(' ')}: ${outcome.stdout}${outcome.stderr}\n${log}`);
    return outcome.stdout;
  }

  async function statusOn(node: LoginNode, name = 'default'): Promise<Status> {
    return JSON.parse(await done(node, 'status', name, '--json')) as Status;
  }

  async function nothingLeft(pid: number, name = 'default'): Promise<void> {
    await eventually(() => {
      assert.equal(isAlive(pid), false);
    });
    const files = await readdir(join(stack.home, '.outpost', name));
    assert.deepEqual(
      files.filter((file) => file.startsWith('agent.lock')),
      [],
    );
  }

  it('says on the other node where the endpoint runs and since when', async () => {
    await done('login01', 'start');
    const status = await statusOn('login02');
    assert.equal(status.state, 'elsewhere');
    assert.equal(status.host, 'login01');
    assert.match(status.reason ?? '', /^running on login01 since \d{4}-/);
    assert.equal(status.elsewhere?.is_holder, true);
    assert.match(await done('login02', 'list'), /default +[0-9a-f-]{36} +elsewhere +login01 /);
    assert.equal((await statusOn('login01')).state, 'online');
  });

  it('refuses to start it a second time, and says how to take it over', async () => {
    const outcome = await on('login02', 'start');
    assert.equal(outcome.code, 73, outcome.stderr);
    assert.match(outcome.stderr, /running on login01 since .*agent stop default.*--takeover/);
    assert.deepEqual(JSON.parse(await done('login02', 'ensure', '--json')), {
      name: 'default',
      was_running: true,
    });
  });

  it('refuses to start it in the foreground, too, and leaves the lock of the other node alone', async () => {
    const outcome = await on('login02', 'start', '--foreground');
    assert.equal(outcome.code, 73, outcome.stderr);
    assert.match(outcome.stderr, /running on login01 since .*--takeover/);
    const { state, host } = await statusOn('login01');
    assert.deepEqual([state, host], ['online', 'login01']);
  });

  it('stands by for it as a service, in one line, and takes over when the other node has ended it', async () => {
    const standby = service('login02');
    await eventually(() => {
      assert.match(standby.said(), /standing by: another host has the endpoint/);
    }, 30_000);
    assert.equal((await statusOn('login01')).state, 'online');
    assert.equal((await statusOn('login02')).state, 'elsewhere');
    assert.equal(standby.said().trim().split('\n').length, 1, standby.said());
    await done('login01', 'stop');
    await eventually(async () => {
      assert.equal((await statusOn('login02')).state, 'online');
    }, 30_000);
    // The node that comes back stands by in its turn, and ends at once when it is told to.
    const back = service('login01');
    await eventually(() => {
      assert.match(back.said(), /standing by/);
    }, 30_000);
    assert.equal(await back.end(), 0);
    assert.match((await statusOn('login01')).reason ?? '', /^running on login02 since /);
    assert.equal(await standby.end(), 0);
    await done('login01', 'start');
  });

  it('pauses, drains, reloads and resumes it from the other node', async () => {
    const words = ['--reason', 'maintenance', '--json'];
    const paused = JSON.parse(await done('login02', 'pause', ...words)) as Status;
    assert.deepEqual([paused.mode.state, paused.mode.reason], ['paused', 'maintenance']);
    assert.match(await done('login02', 'drain'), /is drained/);
    assert.equal((await statusOn('login01')).mode.state, 'drained');
    assert.match(await done('login02', 'reload'), /login01 has read its settings again/);
    assert.match(await done('login02', 'resume'), /takes tasks again/);
    assert.equal((await statusOn('login01')).mode.state, 'running');
  });

  it('does not obey a command for another lease', async () => {
    const { environment } = stack;
    const vhost = new URL(environment['OUTPOST_AMQP_URL'] ?? '').pathname.slice(1);
    const management = new URL(environment['OUTPOST_AMQP_MANAGEMENT_URL'] ?? '');
    const authorization = `Basic ${btoa(`${management.username}:${management.password}`)}`;
    const reply = await fetch(new URL(`/api/queues/${vhost}`, management.origin), {
      headers: { authorization },
    });
    const queues = (await reply.json()) as { name: string }[];
    const queue = queues.find(({ name }) => name.endsWith('.commands'))?.name ?? '';
    const connection = await dialAmqp({
      url: environment['OUTPOST_AMQP_URL'] ?? '',
      connectionName: 'test',
    });
    const publisher = await connection.openPublisher();
    const { lease_epoch: held } = await statusOn('login01');
    for (const text of [
      'not JSON',
      JSON.stringify({ command: 'stop', command_id: 'x', lease_epoch: held - 1 }),
    ]) {
      await publisher.publish('commands', queue, Buffer.from(text), { mandatory: true });
    }
    await eventually(async () => {
      assert.match(await stack.agentLog('default'), /a command for another lease was ignored/);
    });
    await connection.close();
    assert.equal((await statusOn('login01')).state, 'online');
  });

  it('stops it from the other node, and nothing is left', async () => {
    const pid = await stack.agentPid('default');
    const outcome = await on('login02', 'stop', '--json');
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.deepEqual(JSON.parse(outcome.stdout), {
      name: 'default',
      was_running: true,
      pid,
      host: 'login01',
    });
    await nothingLeft(pid);
    for (const node of TWO) {
      assert.equal((await statusOn(node)).state, 'stopped');
    }
    assert.match(await done('login02', 'stop'), /is not running/);
  });

  it('brings it over by `agent restart` on the other node', async () => {
    await done('login01', 'start');
    const pid = await stack.agentPid('default');
    await done('login02', 'restart');
    assert.equal(isAlive(pid), false);
    assert.equal((await statusOn('login02')).state, 'online');
    assert.match((await statusOn('login01')).reason ?? '', /^running on login02 since /);
  });

  it('says since when the other node is silent, and is taken over', async () => {
    const pid = await stack.agentPid('default');
    process.kill(pid, 'SIGSTOP');
    try {
      await eventually(async () => {
        assert.match(
          (await statusOn('login01')).reason ?? '',
          /on login02 since .* silent since \d{4}-.*: its lease has ended; to start it here: agent start default/,
        );
      });
      const outcome = await on('login01', 'stop');
      assert.equal(outcome.code, 69, outcome.stderr);
      assert.match(outcome.stderr, /silent since .*agent start default/);
      await done('login01', 'start', '--takeover');
      assert.equal((await statusOn('login01')).state, 'online');
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    // Fenced, it finishes what it has and ends; the lock of its successor stays.
    await eventually(() => {
      assert.equal(isAlive(pid), false);
    });
    assert.equal((await statusOn('login01')).state, 'online');
    await done('login01', 'stop');
  });

  it('names a lock that its agent has left behind, and starts all the same', async () => {
    await done('login01', 'start');
    const pid = await stack.agentPid('default');
    const { lease_epoch: epoch } = await statusOn('login01');
    process.kill(pid, 'SIGKILL');
    const reply = await released(epoch);
    assert.equal(reply.status, 200);
    const status = await statusOn('login02');
    assert.equal(status.state, 'stale');
    assert.match(
      status.reason ?? '',
      /left its lock behind; to start it here: agent start default/,
    );
    assert.match(await done('login02', 'stop'), /is not running/);
    await done('login02', 'start');
    await done('login01', 'stop');
  });

  /** As an agent does at its end. */
  async function released(epoch: number): Promise<Response> {
    const { client, hubUrl } = stack;
    const grant = await fetch(`${hubUrl}/v2/oauth2/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${btoa(`${client.id}:${client.secret}`)}` },
      body: new URLSearchParams({
        grant_type: 'client_credentials',
        scope: 'https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all',
      }),
    });
    const { access_token: token } = (await grant.json()) as { access_token: string };
    const list = (await (
      await fetch(`${hubUrl}/v2/endpoints`, { headers: { authorization: `Bearer ${token}` } })
    ).json()) as { uuid: string }[];
    return await fetch(`${hubUrl}/v1/endpoints/${list[0]?.uuid ?? ''}/lease/release`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ epoch }),
    });
  }

  it('runs several endpoints side by side on both, and stops them all from one', async () => {
    const names = ['one', 'two', 'three'];
    for (const name of names) {
      await stack.configureAgent(name, { 'python-interpreters': 0 });
    }
    await Promise.all([
      done('login01', 'start', 'one'),
      done('login01', 'start', 'two'),
      done('login02', 'start', 'three'),
    ]);
    const pids = await Promise.all(names.map(async (name) => await stack.agentPid(name)));
    assert.equal(new Set(pids).size, 3);
    const list = JSON.parse(await done('login02', 'list', '--json')) as {
      endpoints: (Status & { name: string; endpoint_id: string })[];
    };
    assert.deepEqual(
      list.endpoints.map(({ name, state, host }) => [name, state, host]),
      [
        ['default', 'stopped', null],
        ['one', 'elsewhere', 'login01'],
        ['three', 'online', 'login02'],
        ['two', 'elsewhere', 'login01'],
      ],
    );
    assert.equal(new Set(list.endpoints.map(({ endpoint_id: id }) => id)).size, 4);
    assert.match(await done('login02', 'stop', '--all'), /Endpoint one on login01 has stopped/);
    for (const [index, name] of names.entries()) {
      await nothingLeft(pids[index] ?? 0, name);
    }
    assert.match(await done('login01', 'stop', '--all'), /No endpoint of .* is running/);
  });
});
