/** The recipe of docs/systemd.md for supervisord, word for word, under a real one: starting again, draining, and what is not started again. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { packageRoot } from '../../src/base/package-root.ts';
import { Client, Executor } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { runProgram, Stack } from '../support/stack.ts';

const AGENT = fileURLToPath(new URL('../../src/cli/agent.js', import.meta.url));
const LONG_MS = 60_000;

/** Where supervisord and supervisorctl are. */
const DIRECTORY = [process.env['OUTPOST_TEST_SUPERVISOR_BIN'] ?? '', '/usr/bin', '/usr/local/bin'].find(
  (place) => place !== '' && existsSync(join(place, 'supervisord')),
); // prettier-ignore

describe('the recipe for supervisord', function () {
  this.timeout(180_000);
  let stack: Stack;
  let executor: Executor;
  let supervisord: ChildProcess | undefined;
  let settings: string;

  before(async function () {
    if (DIRECTORY === undefined) {
      this.test?.parent?.eachTest((test) => {
        test.title += ' (no supervisord here: apt-get install supervisor)';
      });
      this.skip();
    }
    stack = await Stack.start({ hubOnly: true });
    const flags = { 'javascript-threads': 1, 'python-interpreters': 0 };
    await stack.configureAgent('main', flags);
    const { home, hubUrl, client } = stack;
    const program = join(home, 'agent');
    const words = `#!/bin/sh\nexec ${process.execPath} ${AGENT} "$@"\n`;
    writeFileSync(program, words, { mode: 0o755 });
    settings = join(home, 'supervisord.conf');
    writeFileSync(settings, `${frame(home)}\n${recipe(program, join(home, '.outpost'), home)}\n`);
    supervisord = spawn(join(DIRECTORY, 'supervisord'), ['--nodaemon', '-c', settings], {
      env: { PATH: process.env['PATH'], LANG: 'C.UTF-8' },
      stdio: 'ignore',
    });
    await isOnline();
    const hub = new Client({ hubUrl, clientId: client.id, clientSecret: client.secret });
    executor = new Executor({ client: hub, endpointId: (await status()).endpoint_id });
  });

  after(async () => {
    await (executor as Executor | undefined)?.shutdown();
    if (supervisord !== undefined) {
      const ended = once(supervisord, 'exit');
      supervisord.kill('SIGTERM');
      await ended;
    }
    await (stack as Stack | undefined)?.stop();
  });

  function frame(home: string): string {
    const socket = join(home, 'supervisor.sock');
    return [
      '[supervisord]',
      `logfile=${join(home, 'supervisord.log')}`,
      `pidfile=${join(home, 'supervisord.pid')}`,
      `childlogdir=${home}`,
      '[unix_http_server]',
      `file=${socket}`,
      '[rpcinterface:supervisor]',
      'supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface',
      '[supervisorctl]',
      `serverurl=unix://${socket}`,
    ].join('\n');
  }

  /** As it stands in the documentation, for this place and this user. */
  function recipe(program: string, home: string, userHome: string): string {
    const text = readFileSync(join(packageRoot(), 'docs/systemd.md'), 'utf8');
    const block = /^ {4}\[program:outpost-main\]\n(?: {4}.*\n)+/m.exec(text)?.[0];
    assert.ok(block !== undefined);
    return block
      .replaceAll(/^ {4}/gm, '')
      .replace(/^user=.*\n/m, '')
      .replace('HOME="/var/lib/outpost",OUTPOST', `HOME="${userHome}",OUTPOST`)
      .replace('"/var/lib/outpost"', `"${home}"`)
      .replace('/usr/bin/agent', program);
  }

  async function control(...args: string[]): Promise<string> {
    const { stdout } = await runProgram(join(DIRECTORY ?? '', 'supervisorctl'), ['-c', settings, ...args], { env: { PATH: process.env['PATH'] } }); // prettier-ignore
    return stdout;
  }

  async function status(): Promise<{ state: string; endpoint_id: string; pid: number }> {
    const { code, stdout, stderr } = await stack.agentCommand('status', 'main', '--json');
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as { state: string; endpoint_id: string; pid: number };
  }

  async function isOnline(): Promise<number> {
    return await eventually(async () => {
      const { state, pid } = await status();
      assert.equal(state, 'online', said());
      return pid;
    }, LONG_MS);
  }

  /** What supervisord and its program have said. */
  function said(): string {
    const logs = readdirSync(stack.home).filter((name) => name.endsWith('.log'));
    return logs.map((name) => readFileSync(join(stack.home, name), 'utf8').slice(-2000)).join('\n');
  }

  it('starts it again after a failure', async () => {
    const pid = await isOnline();
    process.kill(pid, 'SIGKILL');
    await eventually(async () => {
      assert.notEqual(await isOnline(), pid);
    }, LONG_MS);
    assert.equal(await executor.submit((a: number, b: number) => a + b, 40, 2), 42);
  });

  it('reads its settings again', async () => {
    await isOnline();
    await control('signal', 'HUP', 'outpost-main');
    await eventually(async () => {
      const { stdout } = await stack.agentCommand('status', 'main', '--json');
      assert.notEqual((JSON.parse(stdout) as { reload: unknown }).reload, null);
    }, LONG_MS);
  });

  it('stops it when running tasks have ended', async () => {
    await isOnline();
    const [begun, go] = [join(stack.home, 'begun'), join(stack.home, 'go')];
    const task = executor.submit(
      async (first: string, second: string) => {
        const { existsSync: isThere, writeFileSync: write } = await import('node:fs');
        write(first, '');
        while (!isThere(second)) {
          await new Promise((resolve) => {
            setTimeout(resolve, 50);
          });
        }
        return 'drained';
      },
      begun,
      go,
    );
    await eventually(() => {
      assert.ok(existsSync(begun));
    }, LONG_MS);
    const stopped = control('stop', 'outpost-main');
    await eventually(async () => {
      assert.equal((await status()).state, 'draining');
    }, LONG_MS);
    writeFileSync(go, '');
    assert.equal(await task, 'drained');
    assert.match(await stopped, /outpost-main: stopped/);
    assert.equal((await status()).state, 'stopped');
  });

  it('does not start it again when that cannot help', async () => {
    appendFileSync(join(stack.home, '.outpost/main/config.yaml'), '\nno_such_setting: 1\n');
    await control('start', 'outpost-main');
    await eventually(async () => {
      assert.match(await control('status', 'outpost-main'), /EXITED/);
    }, LONG_MS);
    const log = readFileSync(join(stack.home, 'supervisord.log'), 'utf8');
    assert.match(log, /exited: outpost-main \(exit status 78; expected\)/);
    assert.match(await control('tail', 'outpost-main', 'stderr'), /no_such_setting/);
  });
});
