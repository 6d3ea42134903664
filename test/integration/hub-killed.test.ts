/** A hub that is killed at the worst moments, and an agent that loses its endpoint to another: nothing is lost, nothing runs twice. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import pg from 'pg';

import { systemClock } from '../../src/base/clock.ts';
import { HubClient } from '../../src/client/hub-client.ts';
import { COMPUTE_SCOPE } from '../../src/protocol/rest.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import { clientCredentialsTokenSource } from '../../src/transport/oauth/client-credentials.ts';
import { eventually } from '../support/eventually.ts';
import { testServices } from '../support/services.ts';
import { Stack } from '../support/stack.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';

const AGENT = fileURLToPath(new URL('../../src/cli/agent.js', import.meta.url));
/** Appends a line to a file, after a while: how often it ran is counted from the file. */
const MARKER = packBuffers([
  'js\nmarker:async (path, ms) => { await new Promise((r) => setTimeout(r, ms)); (await import("node:fs")).appendFileSync(path, "x\\n"); return 1; }',
]);

describe('a hub that is killed', function () {
  this.timeout(240_000);
  let amqp: TcpProxy;
  let database: TcpProxy;
  let stack: Stack;
  let hub: HubClient;
  let functionId: string;
  let db: pg.Client;

  before(async () => {
    const services = testServices();
    amqp = await startTcpProxy({ targetPort: Number(new URL(services.amqpUrl).port) });
    database = await startTcpProxy({ targetPort: Number(new URL(services.databaseUrl).port) });
    stack = await Stack.start({
      hubThrough: { amqpPort: amqp.port, databasePort: database.port },
      agent: { 'javascript-threads': 2, 'python-interpreters': 0 },
    });
    const tokens = clientCredentialsTokenSource({
      tokenEndpoint: `${stack.hubUrl}/v2/oauth2/token`,
      clientId: stack.client.id,
      clientSecret: () => stack.client.secret,
      scope: COMPUTE_SCOPE,
      clock: systemClock,
    });
    hub = new HubClient({ hubUrl: stack.hubUrl, tokens });
    const { function_uuid: id } = await hub.registerFunction({
      function_name: 'marker',
      function_code: MARKER,
    });
    functionId = id;
    const url = new URL(stack.environment['OUTPOST_DATABASE_URL'] ?? '');
    url.port = new URL(services.databaseUrl).port;
    db = new pg.Client({ connectionString: url.href });
    await db.connect();
  });

  after(async () => {
    await db.end();
    await stack.stop();
    await amqp.close();
    await database.close();
  });

  function release(): void {
    for (const proxy of [amqp, database]) {
      proxy.hold('to-target', false);
      proxy.hold('to-clients', false);
      proxy.cut();
    }
  }

  afterEach(release);

  async function submit(name: string, count: number, ms = 0): Promise<string[]> {
    const payload = packBuffers([`11\n${JSON.stringify([join(stack.home, name), ms])}`, '11\n{}']);
    const { tasks } = await hub.submit(
      stack.endpointId,
      { tasks: { [functionId]: Array.from({ length: count }, () => payload) }, create_queue: true },
      { idempotencyKey: name },
    );
    return Object.values(tasks).flat();
  }

  async function ran(name: string): Promise<number> {
    try {
      return (await readFile(join(stack.home, name), 'utf8')).split('\n').length - 1;
    } catch {
      return 0;
    }
  }

  async function succeed(ids: readonly string[]): Promise<void> {
    await eventually(async () => {
      const documents = Object.values(await hub.tasks(ids));
      const others = documents.filter(({ status }) => status !== 'success');
      assert.deepEqual(others, []);
      assert.equal(documents.length, ids.length);
    });
  }

  async function restartHub(): Promise<void> {
    await stack.stopHub('SIGKILL');
    release();
    await stack.startHub();
  }

  it('between the insert and the publish: the next one publishes, each task runs once', async () => {
    amqp.hold('to-target', true);
    const ids = await submit('unpublished', 20);
    const { rows } = await db.query(
      'select 1 from tasks where id = any($1::uuid[]) and published_at is null',
      [ids],
    );
    assert.equal(rows.length, 20);
    await restartHub();
    await succeed(ids);
    assert.equal(await ran('unpublished'), 20);
  });

  it('between storing results and their acks: they are streamed and acked by the next one, and stay as they were', async () => {
    const ids = await submit('unacked', 10, 300);
    await eventually(async () => {
      const { rows } = await db.query(
        'select 1 from tasks where id = any($1::uuid[]) and published_at is null',
        [ids],
      );
      assert.equal(rows.length, 0);
    });
    amqp.hold('to-target', true);
    const stored = async (): Promise<Record<string, unknown>[]> =>
      (
        await db.query<Record<string, unknown>>(
          'select id, completed_at, result, streamed_at from tasks where id = any($1::uuid[]) and completed_at is not null order by id',
          [ids],
        )
      ).rows;
    await eventually(async () => {
      assert.equal((await stored()).length, 10);
    });
    const before = await stored();
    assert.ok(before.some((row) => row['streamed_at'] === null));
    await restartHub();
    await eventually(async () => {
      const after = await stored();
      assert.ok(after.every((row) => row['streamed_at'] !== null));
      const kept = ({ id, completed_at: at, result }: Record<string, unknown>): unknown => [
        id,
        at,
        result,
      ];
      assert.deepEqual(after.map(kept), before.map(kept));
    }, 45_000);
    assert.equal(await ran('unacked'), 10);
  });

  it('while it cannot reach its database: results wait at the broker for the next one', async () => {
    const ids = await submit('unstored', 6, 1_500);
    // The agent must have them all before the hub loses its database.
    await eventually(async () => {
      const documents = Object.values(await hub.tasks(ids));
      assert.ok(documents.every(({ status }) => status !== 'waiting-for-ep'));
    });
    database.hold('to-clients', true);
    await eventually(async () => {
      assert.equal(await ran('unstored'), 6);
    }, 40_000);
    await restartHub();
    await succeed(ids);
    assert.equal(await ran('unstored'), 6);
  });

  it('takes the endpoint from an agent that finishes what runs, delivers it, and ends saying who took over', async () => {
    await stack.stopAgent('default');
    const agent = spawn(process.execPath, [AGENT, 'start', 'default', '--foreground'], {
      env: stack.agentEnvironment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    agent.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    agent.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    const ended = once(agent, 'exit') as Promise<[number | null]>;
    await eventually(async () => {
      assert.equal((await hub.endpointStatus(stack.endpointId)).status, 'online');
    });
    const ids = await submit('fenced', 2, 3_000);
    await eventually(async () => {
      const documents = Object.values(await hub.tasks(ids));
      assert.ok(documents.every(({ status }) => status === 'running'));
    });
    await hub.updateEndpoint(stack.endpointId, {
      endpoint_name: 'default',
      lease: {
        holder: { host: 'login02', boot_id: 'other', pid: 4711, start_ticks: 1 },
        takeover: true,
      },
    });
    const [code] = await ended;
    assert.equal(code, 69, said);
    assert.match(said, /fenced.*held by login02 \(pid 4711\) since/);
    await succeed(ids);
    assert.equal(await ran('fenced'), 2);
  });
});
