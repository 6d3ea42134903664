/**
 * The built `agent` command as people and scripts meet it: exit codes, `--json`, and no secret anywhere it does not belong. The hub
 * is a small server with tokens; what needs a broker is for the integration suite.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { eventually } from '../support/eventually.ts';
import { FakeHub } from '../support/fake-hub.ts';
import { freePort } from '../support/free-port.ts';
import { runProgram } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';
import { runOnTerminal } from '../support/terminal.ts';

const AGENT = fileURLToPath(new URL('../../src/cli/agent.js', import.meta.url));
const ID = '0f0e0d0c-0000-4000-8000-000000000001';
const SECRET = 'hunter2-hunter2';

interface Run {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
}

describe('the agent command', () => {
  let home: string;
  let environment: NodeJS.ProcessEnv;

  beforeEach(async () => {
    const root = await mkdtemp(join(tmpdir(), 'outpost-cli-'));
    home = join(root, 'state');
    environment = {
      PATH: process.env['PATH'],
      HOME: root,
      OUTPOST_HOME: home,
      // Short: the path of a Unix socket ends at 107 bytes.
      XDG_RUNTIME_DIR: root,
    };
  });

  afterEach(async () => {
    for (const name of existsSync(home) ? await readdir(home) : []) {
      await agent(['stop', name]);
    }
    await rm(join(home, '..'), { recursive: true });
  });

  async function agent(args: readonly string[], run: Run = {}): Promise<CommandOutcome> {
    return await runProgram(process.execPath, [AGENT, ...args], {
      env: { ...environment, ...run.env },
      ...(run.input !== undefined && { input: run.input }),
    });
  }

  async function agentJson(
    args: readonly string[],
    run: Run = {},
  ): Promise<Record<string, unknown>> {
    const outcome = await agent([...args, '--json'], run);
    return JSON.parse(outcome.stdout) as Record<string, unknown>;
  }

  async function configure(name: string, ...args: string[]): Promise<void> {
    const outcome = await agent(
      ['configure', name, '--client-id', ID, '--client-secret-file', '-', ...args],
      { input: `${SECRET}\n` },
    );
    assert.equal(outcome.code, 0, outcome.stderr);
  }

  async function pidOf(name: string): Promise<number> {
    // A start that gave up waiting may have waited for less than the agent takes to load.
    return await eventually(async () => {
      const lock = JSON.parse(await readFile(join(home, name, 'agent.lock'), 'utf8')) as {
        pid: number;
      };
      return lock.pid;
    });
  }

  it('makes an endpoint that is the owner’s alone, and says what comes next', async () => {
    const outcome = await agent(
      ['configure', 'one', '--client-id', ID, '--client-secret-file', '-', '--reserve', '3'],
      { input: `${SECRET}\n` },
    );
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.match(outcome.stdout, /agent start one/);
    const directory = join(home, 'one');
    for (const [path, mode] of [
      [home, 0o700],
      [directory, 0o700],
      [join(directory, '.env'), 0o600],
      [join(directory, 'config.yaml'), 0o600],
    ] as const) {
      assert.equal((await stat(path)).mode & 0o777, mode, path);
    }
    assert.match(await readFile(join(directory, 'config.yaml'), 'utf8'), /^reserve: 3$/m);
    assert.match(await readFile(join(directory, '.env'), 'utf8'), new RegExp(SECRET));
  });

  it('does not overwrite an endpoint, unless told to, and then keeps its id and credentials', async () => {
    await configure('one', '--reserve', '3');
    await writeFile(join(home, 'one', 'endpoint.json'), JSON.stringify({ endpoint_id: ID }));
    assert.equal((await agent(['configure', 'one'])).code, 73);
    assert.equal((await agent(['configure', 'one', '--force', '--reserve', '4'])).code, 0);
    const status = await agentJson(['status', ID]);
    assert.equal(status['endpoint_id'], ID);
    assert.match(await readFile(join(home, 'one', 'config.yaml'), 'utf8'), /^reserve: 4$/m);
    assert.match(await readFile(join(home, 'one', '.env'), 'utf8'), new RegExp(SECRET));
  });

  it('reports every mistake of a file with exit code 78 and makes nothing', async () => {
    const file = join(home, '..', 'wrong.yaml');
    await writeFile(file, 'reserv: 1\nmax_retries: -1\nhub_url: nowhere\n');
    const outcome = await agent(['configure', 'one', '--from', file]);
    assert.equal(outcome.code, 78);
    for (const line of [1, 2, 3]) {
      assert.ok(outcome.stderr.includes(`${file}:${line}`), outcome.stderr);
    }
    const document = await agentJson(['configure', 'one', '--from', file]);
    const error = document['error'] as { code: string; exitCode: number; problems: unknown[] };
    assert.deepEqual(
      [error.code, error.exitCode, error.problems.length],
      ['CONFIG_INVALID', 78, 3],
    );
    assert.equal(existsSync(join(home, 'one')), false);
  });

  it('ends with 64 for a wrong command line, as JSON when asked', async () => {
    const wrong = [[], ['strat'], ['status', 'a b'], ['list', '--bogus'], ['configure', ID]];
    for (const args of wrong) {
      assert.equal((await agent(args)).code, 64, args.join(' '));
      const { error } = (await agentJson(args)) as { error: { code: string } };
      assert.equal(error.code, 'USAGE', args.join(' '));
    }
    assert.match((await agent(['strat'])).stderr, /start/);
  });

  it('lists endpoints, none at first', async () => {
    assert.deepEqual(await agentJson(['list']), { home, endpoints: [] });
    await configure('two');
    await configure('one');
    const { endpoints } = (await agentJson(['list'])) as { endpoints: Record<string, unknown>[] };
    assert.deepEqual(
      endpoints.map(({ name, state, pid }) => [name, state, pid]),
      [
        ['one', 'stopped', null],
        ['two', 'stopped', null],
      ],
    );
    const table = (await agent(['list'])).stdout;
    assert.match(table, /^NAME +ID +STATE +HOST +PID +SINCE\none +- +stopped/);
    assert.equal(table.includes('\u001B'), false, 'no colour without a terminal');
  });

  it('answers for an endpoint that is stopped, and refuses what it does not know', async () => {
    await configure('one');
    const status = await agentJson(['status', 'one']);
    assert.deepEqual([status['name'], status['state'], status['pid']], ['one', 'stopped', null]);
    assert.equal((await agent(['stop', 'one'])).code, 0);
    assert.equal((await agent(['tasks', 'one'])).code, 69);
    assert.equal((await agent(['logs', 'one'])).code, 0);
    const journal = await agentJson(['journal', 'one']);
    assert.deepEqual([journal['name'], journal['hosts'], journal['notices']], ['one', [], []]);
    assert.match((await agent(['journal', 'one'])).stdout, /^Journal: +\S+one\/journal$/m);
    for (const verb of [
      'status',
      'stop',
      'start',
      'logs',
      'delete',
      'tasks',
      'restart',
      'journal',
    ]) {
      assert.equal((await agent([verb, 'nope'])).code, 69, verb);
    }
  });

  it('shows what a task printed without letting it steer the terminal, unless that is asked for', async () => {
    await configure('one');
    const stdout = '\u001B[31mred\u001B[0m\u001B]0;title\u0007 10%\r20%\u009B2J\r\nend\n';
    const entry = {
      ...{ task_id: ID, function_id: ID, language: 'python', attempt: 1, stdout },
      ...{ received_at: null, began_at: null, ended_at: '2026-01-02T03:04:05.000Z' },
      outcome: 'succeeded',
    };
    const directory = join(home, 'one', 'logs', 'tasks');
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, '2026-01-02-0001.jsonl'), `${JSON.stringify(entry)}\n`);
    const words = ['logs', 'one', '--task', ID, '--stream', 'stdout'];
    assert.equal((await agent(words)).stdout, stdout);
    assert.equal((await agent([...words, '--json'])).stdout.includes('\u009B'), false);
    const seen = async (...more: string[]): Promise<string> => {
      const command = [process.execPath, AGENT, ...words, ...more];
      const outcome = await runOnTerminal(command, [], environment);
      assert.equal(outcome.code, 0, outcome.stdout);
      // The terminal itself ends lines like this.
      return outcome.stdout.replaceAll('\r\n', '\n');
    };
    assert.equal(await seen(), 'red ]0;title  10% 20% 2J\nend\n');
    assert.ok((await seen('--raw')).startsWith('\u001B[31mred'));
    const whole = await runOnTerminal([process.execPath, AGENT, ...words.slice(0, 4)], [], environment); // prettier-ignore
    assert.match(whole.stdout, /red \]0;title {2}10% 20% 2J\r\nend/);
  });

  it('shows where each setting comes from, and no secret', async () => {
    await configure('one', '--reserve', '3');
    const run = { env: { OUTPOST_MAX_RETRIES: '2' } };
    const shown = await agentJson(['config', 'show', 'one', '--origin'], run);
    assert.deepEqual(shown['max_retries'], { value: 2, source: 'environment OUTPOST_MAX_RETRIES' });
    assert.match((shown['reserve'] as { source: string }).source, /config\.yaml:\d+$/);
    assert.doesNotMatch(JSON.stringify(shown), new RegExp(SECRET));
  });

  it('refuses a .env that others can read, and credentials of which half is missing', async () => {
    await configure('one');
    await chmod(join(home, 'one', '.env'), 0o644);
    const open = await agent(['start', 'one']);
    assert.equal(open.code, 78);
    assert.match(open.stderr, /chmod 600/);
    await chmod(join(home, 'one', '.env'), 0o600);
    const half = await agent(['start', 'one'], { env: { OUTPOST_CLIENT_ID: ID } });
    assert.equal(half.code, 78);
    assert.match(half.stderr, /OUTPOST_CLIENT_SECRET/);
    await rm(join(home, 'one', '.env'));
    assert.equal((await agent(['start', 'one'])).code, 77);
    assert.equal(existsSync(join(home, 'one', 'agent.lock')), false);
  });

  it('asks before it deletes, and does not ask a script', async () => {
    await configure('one');
    assert.equal((await agent(['delete', 'one'])).code, 64);
    assert.equal((await agent(['delete', 'one', '--yes'])).code, 0);
    assert.equal(existsSync(join(home, 'one')), false);
  });

  it('keeps trying in the background when the hub is away, without the secret in sight', async () => {
    await configure('one', '--hub-url', `http://127.0.0.1:${await freePort()}`);
    await rm(join(home, 'one', '.env'));
    const run = { env: { OUTPOST_CLIENT_ID: ID, OUTPOST_CLIENT_SECRET: SECRET } };
    const started = await agent(['start', 'one', '--timeout', '5'], run);
    assert.equal(started.code, 75, started.stderr);
    assert.match(started.stderr, /keeps trying/);
    const pid = await pidOf('one');
    for (const file of ['environ', 'cmdline']) {
      assert.doesNotMatch(await readFile(`/proc/${pid}/${file}`, 'latin1'), new RegExp(SECRET));
    }
    const status = await agentJson(['status', 'one']);
    assert.deepEqual([status['state'], status['pid']], ['starting', pid]);
    // Also with the secret of the environment: it was handed over, and is not in the log either.
    const log = await eventually(async () => {
      const text = await readFile(join(home, 'one', 'logs', 'agent.log'), 'utf8');
      assert.match(text, /registration failed/);
      return text;
    });
    assert.doesNotMatch(log, new RegExp(SECRET));
    const second = await agent(['start', 'one'], run);
    assert.equal(second.code, 73);
    assert.match(second.stderr, new RegExp(`process ${pid}`));
    assert.equal((await agent(['delete', 'one', '--yes'])).code, 73);
    const stopped = await agentJson(['stop', 'one']);
    assert.deepEqual(stopped, { name: 'one', was_running: true, pid, host: null });
    assert.equal((await agentJson(['status', 'one']))['state'], 'stopped');
    assert.equal(existsSync(join(home, 'one', 'agent.lock')), false);
  });

  it('stops in the foreground at SIGTERM with exit code 0, logging JSON to stdout', async () => {
    await configure('one', '--hub-url', `http://127.0.0.1:${await freePort()}`);
    const child = spawn(process.execPath, [AGENT, 'start', 'one', '--foreground'], {
      env: environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    await eventually(() => {
      assert.match(text, /registration failed/);
    });
    child.kill('SIGTERM');
    const [code] = (await once(child, 'close')) as [number | null];
    assert.equal(code, 0);
    for (const line of text.trimEnd().split('\n')) {
      JSON.parse(line);
    }
    assert.equal(existsSync(join(home, 'one', 'agent.lock')), false);
  });

  it('says that an agent is gone when it was killed, and starts over its lock', async () => {
    await configure('one', '--hub-url', `http://127.0.0.1:${await freePort()}`);
    await agent(['start', 'one', '--timeout', '5']);
    const pid = await pidOf('one');
    process.kill(pid, 'SIGKILL');
    await eventually(async () => {
      assert.equal((await agentJson(['status', 'one']))['state'], 'stale');
    });
    assert.equal((await agent(['stop', 'one'])).code, 0);
    assert.equal((await agent(['start', 'one', '--timeout', '5'])).code, 75);
    await eventually(async () => {
      assert.notEqual(await pidOf('one'), pid);
    });
  });

  describe('with a hub', () => {
    let hub: FakeHub;

    beforeEach(async () => {
      hub = await FakeHub.start();
    });

    afterEach(async () => {
      await hub.stop();
    });

    it('ends with 77 and the hub’s reason when the credentials are refused', async () => {
      await configure('one', '--hub-url', hub.url);
      const outcome = await agent(['start', 'one']);
      assert.equal(outcome.code, 77, outcome.stderr);
      assert.match(outcome.stderr, /refused client/);
      const { error } = (await agentJson(['start', 'one'])) as { error: Record<string, unknown> };
      assert.equal(error['code'], 'INVALID_CLIENT');
      assert.doesNotMatch(JSON.stringify(error) + outcome.stderr, new RegExp(SECRET));
      assert.equal((await agentJson(['status', 'one']))['state'], 'stopped');
    });

    it('says whose credentials are used, from where, at which hub', async () => {
      hub.misbehave('/v2/oauth2/userinfo', { status: 200, body: { sub: ID, name: 'tester' } });
      const env = {
        OUTPOST_CLIENT_ID: hub.clientId,
        OUTPOST_CLIENT_SECRET: hub.clientSecret,
        OUTPOST_HUB_URL: hub.url,
      };
      const document = await agentJson(['whoami'], { env });
      assert.deepEqual(document, {
        identity_id: ID,
        username: null,
        name: 'tester',
        email: null,
        kind: 'client',
        client_id: hub.clientId,
        source: 'OUTPOST_CLIENT_ID in environment',
        hub_url: hub.url,
      });
      const wrong = await agent(['whoami'], { env: { ...env, OUTPOST_CLIENT_SECRET: 'wrong' } });
      assert.equal(wrong.code, 77);
    });

    it('keeps the directory when the hub does not delete the endpoint, unless forced', async () => {
      await configure('one', '--hub-url', hub.url);
      await writeFile(join(home, 'one', 'endpoint.json'), JSON.stringify({ endpoint_id: ID }));
      assert.equal((await agent(['delete', 'one', '--yes'])).code, 77);
      assert.ok(existsSync(join(home, 'one')));
      const forced = await agentJson(['delete', 'one', '--yes', '--force']);
      assert.equal(forced['hub'], 'failed');
      assert.equal(existsSync(join(home, 'one')), false);
    });
  });
});
