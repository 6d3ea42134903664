/**
 * `agent configure` and `agent config` as people and scripts meet them: settings from a file, credentials from a file or from answers,
 * every mistake at once, and no waiting where nobody can answer.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { runProgram } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';
import { runOnTerminal } from '../support/terminal.ts';

const AGENT = fileURLToPath(new URL('../../src/cli/agent.js', import.meta.url));
const ID = '0f0e0d0c-0000-4000-8000-000000000001';
const SECRET = 'hunter2-hunter2';

describe('agent configure', function () {
  let root: string;
  let home: string;
  let environment: NodeJS.ProcessEnv;
  let secretFile: string;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'outpost-configure-'));
    home = join(root, 'state');
    environment = { PATH: process.env['PATH'], HOME: root, OUTPOST_HOME: home };
    secretFile = join(root, 'secret');
    await writeFile(secretFile, `${SECRET}\n`, { mode: 0o600 });
  });

  afterEach(async () => {
    await rm(root, { recursive: true });
  });

  async function agent(args: readonly string[], input?: string): Promise<CommandOutcome> {
    return await runProgram(process.execPath, [AGENT, ...args], {
      env: environment,
      ...(input !== undefined && { input }),
    });
  }

  async function onTerminal(
    args: readonly string[],
    ...answers: string[]
  ): Promise<CommandOutcome> {
    return await runOnTerminal([process.execPath, AGENT, ...args], answers, environment);
  }

  async function fileOf(name: string, file: string): Promise<string> {
    return await readFile(join(home, name, file), 'utf8');
  }

  async function settingsOf(name: string): Promise<Record<string, unknown>> {
    const outcome = await agent(['config', 'show', name, '--json']);
    assert.equal(outcome.code, 0, outcome.stderr);
    return JSON.parse(outcome.stdout) as Record<string, unknown>;
  }

  it('takes everything from a JSON file on stdin, a secret file and flags, which win', async () => {
    const settings = { max_retries: 2, kill_grace_s: 1.5, environment: { OMP_NUM_THREADS: 4 } };
    const outcome = await agent(
      ['configure', 'one', '--from', '-', '--max-retries', '3', '--client-id', ID].concat(
        '--client-secret-file',
        secretFile,
        '--json',
      ),
      JSON.stringify(settings, undefined, '\t'),
    );
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.deepEqual(JSON.parse(outcome.stdout), {
      name: 'one',
      path: join(home, 'one'),
      config: join(home, 'one', 'config.yaml'),
      created: true,
      credentials: join(home, 'one', '.env'),
      notices: [],
    });
    const shown = await settingsOf('one');
    assert.deepEqual(
      [shown['max_retries'], shown['kill_grace_s'], shown['environment']],
      [3, 1.5, { OMP_NUM_THREADS: '4' }],
    );
    assert.deepEqual([shown['client_id'], shown['client_secret']], [ID, '[secret]']);
    const valid = await agent(['config', 'validate', 'one', '--json']);
    assert.equal(valid.code, 0, valid.stderr);
    assert.equal((JSON.parse(valid.stdout) as { valid: boolean }).valid, true);
  });

  it('reports mistakes in settings and a secret file that others can read at once, and makes nothing', async () => {
    await chmod(secretFile, 0o644);
    const outcome = await agent(
      [
        'configure',
        'one',
        '--hub-url',
        'http://hub.example.org',
        '--javascript-threads',
        'lots',
      ].concat('--client-id', ID, '--client-secret-file', secretFile),
    );
    assert.equal(outcome.code, 78);
    const lines = outcome.stderr.trimEnd().split('\n');
    assert.equal(lines.length, 4, outcome.stderr);
    assert.match(
      outcome.stderr,
      /--hub-url\) = http.*\n.*--javascript-threads\) = lots.*\n.*chmod 600/,
    );
    assert.equal(existsSync(home), false);
  });

  it('says which field of a maintenance window is wrong, or missing', async () => {
    const wrong = await agent(['configure', 'one', '--drain-at', '61 6 * * *']);
    assert.equal(wrong.code, 78);
    assert.match(
      wrong.stderr,
      /"61 6 \* \* \*"|= 61 6 \* \* \*: expected a cron expression.*"61" is no minute/,
    );
    const half = await agent(['configure', 'one', '--drain-at', '0 6 * * 1']);
    assert.match(half.stderr, /drain_at \(--drain-at\) = 0 6 \* \* 1: expected resume_at as well/);
  });

  it('writes a .env to fill in, keeps what stands in it, and never waits without a terminal', async () => {
    const outcome = await agent(['configure', 'one']);
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.ok(outcome.stdout.includes(`OUTPOST_CLIENT_SECRET into ${join(home, 'one', '.env')}`));
    await writeFile(join(home, 'one', '.env'), 'OUTPOST_MAX_RETRIES=2\nHTTPS_PROXY=http://p:1\n');
    const again = await agent(
      ['configure', 'one', '--force', '--client-id', ID, '--client-secret-file', '-'],
      SECRET,
    );
    assert.equal(again.code, 0, again.stderr);
    const text = await fileOf('one', '.env');
    for (const line of [
      'OUTPOST_MAX_RETRIES=2',
      'HTTPS_PROXY=http://p:1',
      `OUTPOST_CLIENT_ID=${ID}`,
    ]) {
      assert.ok(text.includes(`\n${line}\n`), text);
    }
    const half = await agent(['configure', 'two', '--client-id', ID]);
    assert.equal(half.code, 64);
    const both = await agent(['configure', 'two', '--from', '-', '--client-secret-file', '-']);
    assert.equal(both.code, 64);
  });

  it('asks for credentials on a terminal, without showing the secret', async () => {
    const outcome = await onTerminal(['configure', 'one'], `${ID}\r`, `${SECRET}\r`);
    assert.equal(outcome.code, 0, outcome.stdout + outcome.stderr);
    assert.match(outcome.stdout, /Client id, empty for later: /);
    assert.match(outcome.stdout, /Next: agent start one/);
    assert.doesNotMatch(outcome.stdout, /hunter2/);
    assert.match(await fileOf('one', '.env'), new RegExp(`^OUTPOST_CLIENT_SECRET=${SECRET}$`, 'm'));
    const later = await onTerminal(['configure', 'two'], '\r');
    assert.equal(later.code, 0, later.stdout);
    assert.match(later.stdout, /Next: agent login.*\r?\nor put OUTPOST_CLIENT_ID/);
    const asked = await onTerminal(['configure', 'three', '--client-id', ID], `${SECRET}\r`);
    assert.equal(asked.code, 0, asked.stdout);
    assert.match(
      await fileOf('three', '.env'),
      new RegExp(`^OUTPOST_CLIENT_SECRET=${SECRET}$`, 'm'),
    );
  });

  it('writes nothing when the person breaks off, and asks nothing when --json is given', async () => {
    const outcome = await onTerminal(['configure', 'one'], '\u0003');
    assert.equal(outcome.code, 130, outcome.stdout);
    assert.equal(existsSync(join(home, 'one')), false);
    const json = await onTerminal(['configure', 'one', '--json']);
    assert.equal(json.code, 0, json.stdout);
  });

  it('says loudly that nothing will run where a batch scheduler is installed', async () => {
    const bin = join(root, 'bin');
    await mkdir(bin);
    await writeFile(join(bin, 'sbatch'), '#!/bin/sh\n', { mode: 0o755 });
    environment['PATH'] = `${bin}:${process.env['PATH'] ?? ''}`;
    const outcome = await agent(['configure', 'one']);
    assert.match(outcome.stderr, /^Warning: No tasks will run on this host: .*sbatch/);
    const shown = await agent(['config', 'show', 'one', '--origin']);
    assert.match(shown.stdout, /^worker_nice +10 +default of hosts with a batch scheduler \(/m);
    assert.match(shown.stderr, /^Warning: No tasks will run/);
    const told = await agent([
      'configure',
      'two',
      '--javascript-threads',
      '1',
      '--python-interpreters',
      '1',
    ]);
    assert.equal(told.stderr, '');
    assert.equal((await agent(['configure', 'three', '--javascript-threads', '0'])).code, 0);
  });

  it('prints examples of the files that it writes', async () => {
    const yaml = await agent(['config', 'reference', '--format', 'yaml']);
    assert.match(yaml.stdout, /^# hub_url: http:\/\/localhost:5000$/m);
    const dotenv = await agent(['config', 'reference', '--format', 'dotenv']);
    assert.match(dotenv.stdout, /^# OUTPOST_HUB_URL=http:\/\/localhost:5000$/m);
  });
});
