/**
 * Looks for secrets in everything that a real run leaves or shows: files of the endpoints, logs of agent and hub, what commands print,
 * environment and arguments of every process under the agents, and what tasks can see. The secrets are the client's, the access tokens
 * and the broker's passwords, as they went by on the wire.
 */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { Client, Executor } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { untilFile } from '../support/held-function.ts';
import { RecordingProxy } from '../support/recording-proxy.ts';
import { Stack, runProgram } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';

const WRONG_SECRET = 'not-the-secret-but-one-all-the-same';

/** Processes below `pid`, by what /proc says of parents; those in sessions of their own too. */
function descendantsOf(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const text = readFileSync(`/proc/${name}/stat`, 'latin1');
      parents.set(Number(name), Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // It has ended meanwhile.
    }
  }
  const found = [pid];
  for (const parent of found) {
    found.push(...[...parents].filter(([, its]) => its === parent).map(([child]) => child));
  }
  return found.slice(1);
}

describe('secrets of a real run', function () {
  this.timeout(240_000);
  let stack: Stack;
  let proxy: RecordingProxy;
  let client: Client;
  let executor: Executor;
  const endpoints = ['default', 'handed', 'refused'];
  /** Everything that was shown or seen, by where. */
  const seen = new Map<string, string>();

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    proxy = await RecordingProxy.start(stack.hubUrl);
    const agent = { 'hub-url': proxy.url, 'log-level': 'trace', 'javascript-threads': 1 };
    for (const name of endpoints) {
      await stack.configureAgent(name, { ...agent, 'python-interpreters': 1 });
    }
    const { id: clientId, secret: clientSecret } = stack.client;
    client = new Client({ hubUrl: stack.hubUrl, clientId, clientSecret });
  });

  after(async () => {
    await executor.shutdown();
    for (const name of endpoints) {
      await stack.agentCommand('stop', name);
    }
    await proxy.stop();
    await stack.stop();
  });

  function note(where: string, { stdout, stderr }: CommandOutcome): void {
    seen.set(`${where}, stdout`, stdout);
    seen.set(`${where}, stderr`, stderr);
  }

  async function command(...args: string[]): Promise<CommandOutcome> {
    const outcome = await stack.agentCommand(...args);
    note(`agent ${args.join(' ')}`, outcome);
    return outcome;
  }

  /** The environment, the arguments and the open files of a process. */
  function noteProcess(pid: number, what: string): void {
    for (const file of ['environ', 'cmdline']) {
      seen.set(`/proc/${pid}/${file} (${what})`, readFileSync(`/proc/${pid}/${file}`, 'latin1'));
    }
    const files = readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
      } catch {
        // Closed meanwhile.
        return [];
      }
    });
    assert.equal(
      files.some((path) => path.endsWith('/.env')),
      false,
      `${what} has .env open`,
    );
  }

  /** All files but those that are meant to hold the secret. */
  async function noteFiles(directory: string): Promise<string[]> {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    const files = entries.filter(
      (entry) => entry.isFile() && !/^\.env$|\.secret$/.test(entry.name),
    );
    for (const file of files) {
      const path = join(file.parentPath, file.name);
      seen.set(path, await readFile(path, 'latin1'));
    }
    return files.map(({ name }) => name);
  }

  it('pass by: the hub refuses, repeats what it was told, and accepts at last', async () => {
    proxy.interrupt({ path: '/v2/oauth2/token', status: 500, echo: true });
    proxy.interrupt({ path: '/v2/oauth2/token', status: 400, echo: true });
    await command('start', 'default');
    proxy.interrupt({ path: '/v3/endpoints', status: 400, echo: true });
    await command('start', 'default', '--json');
    await command('stop', 'default');
    const endpointId = await stack.startAgent('default');
    executor = new Executor({ client, endpointId });

    const dotenv = join(stack.home, '.outpost', 'refused', '.env');
    const text = await readFile(dotenv, 'utf8');
    await writeFile(dotenv, text.replace(stack.client.secret, WRONG_SECRET));
    assert.equal((await command('start', 'refused', '--json')).code, 77);

    await rm(join(stack.home, '.outpost', 'handed', '.env'));
    const env = {
      ...stack.agentEnvironment,
      OUTPOST_CLIENT_ID: stack.client.id,
      OUTPOST_CLIENT_SECRET: stack.client.secret,
    };
    const agent = join(import.meta.dirname, '../../src/cli/agent.js');
    const handed = await runProgram(process.execPath, [agent, 'start', 'handed', '--json'], {
      env,
    });
    note('agent start handed', handed);
    assert.equal(handed.code, 0, handed.stderr);
    assert.ok(proxy.interruptedCount >= 2, String(proxy.interruptedCount));
    assert.ok(proxy.secrets.size >= 6, `${proxy.secrets.size} secrets went by`);
  });

  it('cannot be seen by tasks, nor in the processes that run them', async () => {
    const python = await client.registerPythonFunction(
      'def look(seconds):\n' +
        '    import os, subprocess, sys\n' +
        '    child = subprocess.Popen(["sleep", str(seconds)])\n' +
        '    print("printed", file=sys.stderr)\n' +
        '    return [dict(os.environ), sys.argv, child.pid]\n',
    );
    const raise = await client.registerPythonFunction(
      'def f():\n    raise ValueError("of the task")\n',
    );
    const javascript = await executor.submit(() => [process.env, process.argv, process.execArgv]);
    const [environ, argv] = (await executor.submitToRegisteredFunction(python, [60])) as unknown[];
    await assert.rejects(async () => await executor.submitToRegisteredFunction(raise, []));
    seen.set('what a JavaScript function sees', JSON.stringify(javascript));
    seen.set('what a Python function sees', JSON.stringify([environ, argv]));
    for (const name of ['default', 'handed']) {
      const pid = await stack.agentPid(name);
      noteProcess(pid, `agent ${name}`);
      const below = await eventually(() => {
        const found = descendantsOf(pid);
        assert.ok(found.length >= 2, `worker host and interpreter of ${name}: ${found.join()}`);
        return found;
      });
      for (const process of below) {
        noteProcess(process, `under agent ${name}`);
      }
    }
    const gate = join(stack.home, 'gate');
    const held = executor.submit(untilFile, gate, null);
    await eventually(async () => {
      const names = await noteFiles(join(stack.home, '.outpost'));
      assert.ok(
        names.some((name) => name.endsWith('.seg')),
        'the journal has no segment yet',
      );
    });
    await writeFile(gate, '');
    await held;
  });

  it('are not in what commands print', async () => {
    for (const args of [
      ['status', 'default'],
      ['status', 'handed'],
      ['list'],
      ['tasks', 'default'],
      ['journal', 'default'],
      ['config', 'show', 'default', '--origin'],
      ['config', 'validate', 'default'],
      ['whoami', 'default'],
      ['logs', 'refused'],
    ]) {
      assert.equal((await command(...args, '--json')).code, 0, args.join(' '));
    }
    for (const args of [
      ['status', 'default'],
      ['logs', 'default'],
      ['config', 'show', 'default'],
    ]) {
      assert.equal((await command(...args)).code, 0, args.join(' '));
    }
  });

  it('are in no file when the worker host has crashed and the agent has dumped its status', async () => {
    const { stdout } = await stack.agentCommand('status', 'default', '--json');
    const { worker_host_pid: hostPid } = JSON.parse(stdout) as { worker_host_pid: number };
    process.kill(hostPid, 'SIGABRT');
    await eventually(async () => {
      assert.match(await stack.agentLog('default'), /worker host ended/);
    });
    const pid = await stack.agentPid('handed');
    process.kill(pid, 'SIGQUIT');
    await eventually(async () => {
      assert.match(await stack.agentLog('handed'), /status at SIGQUIT/);
    });
    await command('stop', 'default', '--json');
    const names = await noteFiles(stack.home);
    for (const name of ['agent.log', 'config.yaml', 'endpoint.json', 'hub.log']) {
      assert.ok(names.includes(name), name);
    }
  });

  it('are nowhere in all that was seen', () => {
    const { id, secret } = stack.client;
    const basic = Buffer.from(`${id}:${secret}`).toString('base64');
    const needles = [secret, basic, WRONG_SECRET, ...proxy.secrets].filter(
      ({ length }) => length > 7,
    );
    assert.ok(seen.size > 40, `only ${seen.size} places were searched`);
    const leaks: string[] = [];
    for (const [where, text] of seen) {
      for (const needle of needles) {
        const at = text.indexOf(needle);
        if (at !== -1) {
          // Not the secret itself, which would then be in the log of the test.
          leaks.push(`${where}: …${text.slice(Math.max(0, at - 120), at)}[here]`);
        }
      }
    }
    assert.deepEqual(leaks, []);
  });
});
