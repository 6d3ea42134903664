/**
 * The background process that `agent start` makes before it has read its command line: it becomes the agent, or nothing of it is left.
 * The hub is an address where nobody listens.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { runProgram } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';

const AGENT = fileURLToPath(new URL('../../src/cli/agent.js', import.meta.url));
const DAEMON = fileURLToPath(new URL('../../src/cli/agent-daemon.js', import.meta.url));
const ID = '0f0e0d0c-0000-4000-8000-000000000001';

/** Background processes of an endpoint. */
function daemonsOf(home: string, name: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
        // After the options of Node.
        const given = words.slice(words.indexOf(DAEMON), -1);
        return (
          given[0] === DAEMON && given[1] === name && environment.includes(`OUTPOST_HOME=${home}`)
        );
      } catch {
        // It has ended meanwhile.
        return false;
      }
    })
    .map(Number);
}

describe('an agent process that is made ahead', function () {
  this.timeout(120_000);
  let home: string;
  let environment: NodeJS.ProcessEnv;

  beforeEach(async () => {
    const root = await mkdtemp(join(tmpdir(), 'outpost-ahead-'));
    home = join(root, 'state');
    environment = {
      PATH: process.env['PATH'],
      HOME: root,
      OUTPOST_HOME: home,
      XDG_RUNTIME_DIR: root,
    };
    const hubUrl = `http://127.0.0.1:${await freePort()}`;
    for (const name of ['default', 'other']) {
      const outcome = await agent(
        ['configure', name, '--client-id', ID, '--client-secret-file', '-', '--hub-url', hubUrl],
        'hunter2-hunter2\n',
      );
      assert.equal(outcome.code, 0, outcome.stderr);
      // As after a first start: only then is one made ahead.
      await runProgram('/bin/mkdir', ['-m', '700', join(home, name, 'logs')]);
    }
  });

  afterEach(async () => {
    for (const name of ['default', 'other']) {
      await agent(['stop', name]);
      assert.deepEqual(daemonsOf(home, name), []);
    }
    await rm(join(home, '..'), { recursive: true });
  });

  async function agent(args: readonly string[], input?: string): Promise<CommandOutcome> {
    return await runProgram(process.execPath, [AGENT, ...args], {
      env: environment,
      ...(input !== undefined && { input }),
    });
  }

  it('becomes the agent: there is one process, which keeps trying', async () => {
    const outcome = await agent(['start', '--timeout', '1']);
    assert.equal(outcome.code, 75, outcome.stderr);
    assert.equal(daemonsOf(home, 'default').length, 1);
  });

  it('is gone when another endpoint was meant', async () => {
    const outcome = await agent(['start', '--timeout', '1', 'other']);
    assert.equal(outcome.code, 75, outcome.stderr);
    await eventually(() => {
      assert.deepEqual(daemonsOf(home, 'default'), []);
    });
    assert.equal(daemonsOf(home, 'other').length, 1);
    assert.ok(!existsSync(join(home, 'default/agent.lock')));
  });

  it('is gone when the command refuses to start', async () => {
    await appendFile(join(home, 'default/config.yaml'), '\nno_such_setting: 1\n');
    assert.equal((await agent(['start'])).code, 78);
    assert.equal((await agent(['start', '--timeout', 'never'])).code, 64);
    await eventually(() => {
      assert.deepEqual(daemonsOf(home, 'default'), []);
    });
    assert.ok(!existsSync(join(home, 'default/agent.lock')));
    assert.ok(!existsSync(join(home, 'default/logs/agent.log')));
  });

  it('leaves what a running agent wrote on stderr alone', async () => {
    assert.equal((await agent(['start', '--timeout', '1'])).code, 75);
    await eventually(() => {
      assert.ok(existsSync(join(home, 'default/agent.lock')));
    });
    const stderr = join(home, 'default/logs/stderr.log');
    await writeFile(stderr, 'last words\n');
    assert.equal((await agent(['start'])).code, 73);
    assert.equal(await readFile(stderr, 'utf8'), 'last words\n');
  });

  it('ends in peace when its command is killed before it said anything', async () => {
    const child = spawn(process.execPath, [DAEMON, 'default'], {
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
    });
    const said: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => said.push(text));
    }
    const exited = once(child, 'exit');
    child.stdio[3]?.destroy();
    assert.deepEqual(await exited, [0, null]);
    assert.deepEqual(said, []);
    assert.ok(!existsSync(join(home, 'default/agent.lock')));
  });
});
