/** The `hub` command as people run it: its processes, files and exit codes. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { isAlive, processIdentity } from '../../src/hub/dev/process-identity.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { createDatabase, createVhost, testServices } from '../support/services.ts';
import type { TestDatabase, TestVhost } from '../support/services.ts';
import { runProgram } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';

const HUB = fileURLToPath(new URL('../../src/cli/hub.js', import.meta.url));

type Json = Record<string, unknown>;

function json(outcome: CommandOutcome): Json {
  return JSON.parse(outcome.stdout) as Json;
}

describe('the hub command', function () {
  this.timeout(240_000);
  let home: string;
  let vhost: TestVhost;
  let database: TestDatabase;
  let environment: Record<string, string>;
  before(async () => {
    const services = testServices();
    home = await mkdtemp(join(tmpdir(), 'outpost-hub-cli-'));
    vhost = await createVhost(services.managementUrl);
    database = await createDatabase(services.databaseUrl);
    environment = {
      PATH: process.env['PATH'] ?? '',
      HOME: home,
      OUTPOST_HOME: join(home, '.outpost'),
      OUTPOST_AMQP_URL: vhost.amqpUrl,
      OUTPOST_AMQP_MANAGEMENT_URL: services.managementUrl,
      OUTPOST_DATABASE_URL: database.databaseUrl,
    };
  });
  after(async () => {
    await vhost.delete();
    await database.drop();
    await rm(home, { recursive: true, force: true });
  });

  async function hub(args: readonly string[], env: NodeJS.ProcessEnv = environment) {
    return await runProgram(process.execPath, [HUB, ...args], { env, cwd: home });
  }

  function without(...names: string[]): NodeJS.ProcessEnv {
    return Object.fromEntries(
      Object.entries(environment).filter(([name]) => !names.includes(name)),
    );
  }

  it('reports every wrong setting at once and exits with 78', async () => {
    const env = { ...without('OUTPOST_DATABASE_URL'), OUTPOST_HUB_PORT: 'eighty' };
    const outcome = await hub(['start', '--json'], env);
    assert.equal(outcome.code, 78);
    assert.match(outcome.stderr, /OUTPOST_DATABASE_URL/);
    assert.match(outcome.stderr, /OUTPOST_HUB_PORT/);
    const { problems } = json(outcome)['error'] as { problems: Json[] };
    assert.equal(problems.length, 2);
  });

  it('exits with 64 on a wrong command line', async () => {
    assert.equal((await hub(['strat'])).code, 64);
    assert.equal((await hub(['client', 'create', 'x', '--id', 'nonsense'])).code, 64);
  });

  it('names the database that is away and exits with 75', async () => {
    const port = await freePort();
    const env = { ...environment, OUTPOST_DATABASE_URL: `postgresql://u:p4ss@127.0.0.1:${port}/x` };
    const outcome = await hub(['client', 'list'], env);
    assert.equal(outcome.code, 75);
    assert.match(outcome.stderr, /OUTPOST_DATABASE_URL/);
    assert.ok(!outcome.stderr.includes('p4ss'));
  });

  it('migrates once', async () => {
    const first = await hub(['migrate', '--json']);
    assert.equal(first.code, 0, first.stderr);
    assert.ok((json(first)['applied'] as string[]).includes('0001-initial'));
    assert.deepEqual(json(await hub(['migrate', '--json'])), { applied: [] });
  });

  it('creates, lists and deletes clients', async () => {
    const id = crypto.randomUUID();
    const created = json(
      await hub(['client', 'create', 'ada', '--id', id, '--endpoint-only', '--json']),
    );
    assert.equal(created['client_id'], id);
    assert.equal(typeof created['client_secret'], 'string');
    const again = await hub(['client', 'create', 'ada']);
    assert.equal(again.code, 69);
    assert.match(again.stderr, /exists already/);
    const listed = json(await hub(['client', 'list', '--json']))['clients'] as Json[];
    assert.deepEqual(
      listed.map((client) => [client['client_id'], client['name'], client['endpoint_only']]),
      [[id, 'ada', true]],
    );
    assert.equal((await hub(['client', 'delete', 'ada'])).code, 0);
    assert.equal((await hub(['client', 'delete', 'ada'])).code, 69);
  });

  it('gives a client a new secret, and says when there is no such client', async () => {
    const created = json(await hub(['client', 'create', 'rotating', '--endpoint-only', '--json']));
    const rotated = json(await hub(['client', 'rotate', 'rotating', '--json']));
    assert.notEqual(rotated['client_secret'], created['client_secret']);
    assert.deepEqual(
      { ...rotated, client_secret: '' },
      { ...created, client_secret: '' },
      'it stays who it is',
    );
    const unknown = await hub(['client', 'rotate', 'nobody']);
    assert.equal(unknown.code, 69);
    assert.match(unknown.stderr, /hub client list/);
    await hub(['client', 'delete', 'rotating']);
  });

  it('writes credentials to a file that only its owner reads, and does not print them', async () => {
    const file = join(home, 'client.env');
    const created = await hub(['client', 'create', 'grace', '--write-env', file, '--json']);
    assert.equal(created.code, 0, created.stderr);
    assert.ok(!('client_secret' in json(created)));
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    const text = await readFile(file, 'utf8');
    assert.match(text, /^OUTPOST_CLIENT_ID=[0-9a-f-]{36}\nOUTPOST_CLIENT_SECRET=[\w-]{43}\n$/);
    const again = await hub(['client', 'create', 'grace2', '--write-env', file]);
    assert.equal(again.code, 64);
    assert.equal(await readFile(file, 'utf8'), text);
    assert.equal(
      (await hub(['client', 'create', 'grace2', '--write-env', file, '--force'])).code,
      0,
    );
  });

  it('writes credentials into the commented file of an endpoint, and leaves the rest of it alone', async () => {
    const file = join(home, 'endpoint.env');
    const before =
      '# Yours alone.\n# OUTPOST_CLIENT_ID=\n# OUTPOST_CLIENT_SECRET=\nOUTPOST_RESERVE=5';
    await writeFile(file, before, { mode: 0o600 });
    const created = await hub(['client', 'create', 'heidi', '--write-env', file]);
    assert.equal(created.code, 0, created.stderr);
    const [, id, secret, rest] = (await readFile(file, 'utf8')).split('\n');
    assert.match(id ?? '', /^OUTPOST_CLIENT_ID=[0-9a-f-]{36}$/);
    assert.match(secret ?? '', /^OUTPOST_CLIENT_SECRET=[\w-]{43}$/);
    assert.equal(rest, 'OUTPOST_RESERVE=5');
  });

  it('takes settings from a file', async () => {
    const file = join(home, 'hub.env');
    await writeFile(file, `OUTPOST_DATABASE_URL=${database.databaseUrl}\n`, { mode: 0o600 });
    const outcome = await hub(
      ['client', 'list', '--env-file', file, '--json'],
      without('OUTPOST_DATABASE_URL'),
    );
    assert.equal(outcome.code, 0, outcome.stderr);
  });

  it('starts, says that it is ready, and stops on SIGTERM with exit code 0', async () => {
    const port = await freePort();
    const env = { ...environment, OUTPOST_HUB_PORT: String(port) };
    const child = spawn(process.execPath, [HUB, 'start'], { env, cwd: home, stdio: 'pipe' });
    child.stdout.resume();
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    await eventually(() => {
      assert.equal(child.exitCode, null, said);
      assert.match(said, /hub is ready at/);
    }, 100_000);
    const status = await hub(['status', '--json'], env);
    assert.equal(status.code, 0, status.stdout);
    assert.equal(json(status)['ready'], true);
    // Without TLS, at an address that is none of loopback's: nothing secret is sent.
    const plain = { ...env, OUTPOST_HUB_URL: `http://0.0.0.0:${port}` };
    assert.equal(json(await hub(['status', '--json'], plain))['ready'], true);
    const taken = await hub(['start'], env);
    assert.equal(taken.code, 75);
    assert.match(taken.stderr, new RegExp(`${port}.*OUTPOST_HUB_PORT`));
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
    assert.equal((await hub(['status', '--json'], env)).code, 69);
  });

  describe('dev', () => {
    let env: NodeJS.ProcessEnv;
    before(async () => {
      env = {
        ...without('OUTPOST_DATABASE_URL', 'OUTPOST_AMQP_URL', 'OUTPOST_AMQP_MANAGEMENT_URL'),
        OUTPOST_HUB_PORT: String(await freePort()),
      };
    });

    it('has nothing to work on before it runs', async () => {
      const outcome = await hub(['client', 'list'], env);
      assert.equal(outcome.code, 78);
      assert.match(outcome.stderr, /hub dev/);
      assert.deepEqual(json(await hub(['stop', '--json'], env)), {
        stopped: false,
        running: false,
      });
    });

    it('runs in the background until it is told to stop, one at a time', async () => {
      const started = await hub(['dev', '--detach', '--json'], env);
      assert.equal(started.code, 0, started.stderr);
      const url = String(json(started)['hub_url']);
      assert.equal((await fetch(`${url}/v1/health`)).status, 200);
      assert.match(started.stderr, /RabbitMQ is ready/);
      const second = await hub(['dev', '--detach'], env);
      assert.equal(second.code, 73);
      assert.match(second.stderr, /hub stop/);
      const foreground = await hub(['dev'], env);
      assert.equal(foreground.code, 73);
      const status = json(await hub(['status', '--json'], env));
      assert.equal(status['hub_url'], url);
      const identity = processIdentity(Number(status['pid']));
      assert.ok(identity !== undefined && isAlive(identity));
      assert.equal((await hub(['client', 'create', 'dev'], env)).code, 0);
      const stopped = await hub(['stop', '--json'], env);
      assert.equal(stopped.code, 0, stopped.stderr);
      assert.ok(!isAlive(identity));
      await assert.rejects(fetch(`${url}/v1/health`));
      assert.equal((await hub(['status'], env)).code, 69);
    });

    // A record of a process that is gone must not keep the next one from starting, whatever has its pid now.
    it('says why it cannot start in the background, with the exit code of that reason', async () => {
      const directory = join(home, '.outpost', '.hub');
      await mkdir(directory, { recursive: true });
      const stale = { pid: process.pid, startTicks: '1', bootId: 'x', startedAt: '' };
      await writeFile(join(directory, 'hub.json'), JSON.stringify(stale));
      const outcome = await hub(['dev', '--detach', '--port', 'eighty', '--json'], env);
      assert.equal(outcome.code, 78);
      const { createServer } = await import('node:net');
      const server = createServer().listen(Number(env['OUTPOST_HUB_PORT']), '127.0.0.1');
      await once(server, 'listening');
      const taken = await hub(['dev', '--detach'], env);
      server.close();
      await once(server, 'close');
      assert.equal(taken.code, 75, taken.stderr);
      assert.match(taken.stderr, /OUTPOST_HUB_PORT/);
      assert.equal((await hub(['status'], env)).code, 69);
    });
  });
});
