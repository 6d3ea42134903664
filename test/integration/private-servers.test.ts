/** The private RabbitMQ and PostgreSQL of `hub dev`: they keep their data, and they never outlive whoever started them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import pg from 'pg';

import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { startPrivateServers } from '../../src/hub/dev/private-servers.ts';
import type { PrivateServers } from '../../src/hub/dev/private-servers.ts';
import { processIdentity } from '../../src/hub/dev/process-identity.ts';
import { eventually } from '../support/eventually.ts';
import { managementRequest } from '../support/services.ts';

const CALLER = fileURLToPath(new URL('../support/private-servers-caller.js', import.meta.url));

async function start(
  dataDir: string,
  which: { broker?: boolean; database?: boolean } = {},
): Promise<PrivateServers> {
  return await startPrivateServers({
    dataDir,
    clock: systemClock,
    logger: silentLogger,
    ...which,
  });
}

async function query(databaseUrl: string, text: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return (await client.query(text)).rows as unknown[];
  } finally {
    await client.end();
  }
}

/** Every living process below these, by what /proc says now. */
function withDescendants(pids: readonly number[]): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
    } catch {
      // It ended while we were looking.
    }
  }
  const all: number[] = [];
  for (let next = [...pids]; next.length > 0;) {
    all.push(...next);
    next = next.flatMap((pid) => children.get(pid) ?? []);
  }
  return all;
}

describe('private servers', () => {
  let dataDir: string;
  const bystanders: ChildProcess[] = [];

  beforeEach(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'outpost-private-'));
    // As root the servers run as other users, who must get through.
    await chmod(dataDir, 0o711);
  });

  afterEach(async () => {
    for (const child of bystanders.splice(0)) {
      child.kill('SIGKILL');
    }
    await rm(dataDir, { recursive: true, force: true });
  });

  function bystander(): { pid: number; child: ChildProcess } {
    const child = spawn('sleep', ['600'], { stdio: 'ignore' });
    bystanders.push(child);
    assert.ok(child.pid !== undefined);
    return { pid: child.pid, child };
  }

  it('keep data, ports and password from one run to the next', async () => {
    const first = await start(dataDir);
    await query(first.databaseUrl, 'create table kept (answer int)');
    await query(first.databaseUrl, 'insert into kept values (42)');
    await managementRequest(first.managementUrl, 'PUT', '/vhosts/kept', {});
    await first.stop();
    assert.deepEqual(
      first.pids.filter((pid) => processIdentity(pid) !== undefined),
      [],
    );

    const second = await start(dataDir);
    assert.equal(second.amqpUrl, first.amqpUrl);
    assert.equal(second.databaseUrl, first.databaseUrl);
    assert.deepEqual(await query(second.databaseUrl, 'select answer from kept'), [{ answer: 42 }]);
    await managementRequest(second.managementUrl, 'GET', '/vhosts/kept');
    await second.stop({ fast: true });
    assert.equal(existsSync(second.dataDirectory), false);
  });

  it('go when their caller is killed, and start again on what it left', async () => {
    const caller = spawn(process.execPath, [CALLER, dataDir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(caller.stdout, 'data')) as [Buffer];
    const { pids } = JSON.parse(line.toString('utf8')) as { pids: number[] };
    const all = withDescendants(pids);
    assert.ok(all.length > pids.length);
    caller.kill('SIGKILL');
    await eventually(() => {
      assert.deepEqual(
        all.filter((pid) => processIdentity(pid) !== undefined),
        [],
      );
    });

    const again = await start(dataDir, { broker: false });
    assert.equal(again.amqpUrl, '');
    await query(again.databaseUrl, 'select 1');
    await again.stop({ fast: true });
  });

  it('refuse a directory in which a living process runs them', async () => {
    const first = await start(dataDir, { broker: false });
    await assert.rejects(start(dataDir, { broker: false }), { code: 'ALREADY_RUNNING' });
    await first.stop({ fast: true });
  });

  it('end what a dead caller left running, and nothing that merely has its number', async () => {
    const orphan = bystander();
    const innocent = bystander();
    const owner = bystander();
    const record = {
      owner: processIdentity(owner.pid),
      servers: [
        { title: 'RabbitMQ', ...processIdentity(orphan.pid) },
        { title: 'epmd', ...processIdentity(innocent.pid), startTicks: '1' },
      ],
    };
    const ended = once(owner.child, 'exit');
    owner.child.kill('SIGKILL');
    await ended;
    await writeFile(join(dataDir, 'running.json'), JSON.stringify(record));

    const servers = await start(dataDir, { broker: false });
    assert.equal(processIdentity(orphan.pid), undefined);
    assert.notEqual(processIdentity(innocent.pid), undefined);
    await servers.stop({ fast: true });
  });

  it('start although postmaster.pid names a process that is no PostgreSQL', async () => {
    const first = await start(dataDir, { broker: false });
    const pidFile = join(dataDir, 'postgresql', 'data', 'postmaster.pid');
    const text = await readFile(pidFile, 'utf8');
    await first.stop();
    const innocent = bystander();
    await writeFile(pidFile, text.replace(/^\d+/, `${innocent.pid}`));

    const second = await start(dataDir, { broker: false });
    assert.notEqual(processIdentity(innocent.pid), undefined);
    await second.stop({ fast: true });
  });

  it('say by name which server ended by itself', async () => {
    const exits: string[] = [];
    const servers = await startPrivateServers({
      dataDir,
      clock: systemClock,
      logger: silentLogger,
      broker: false,
      onExit: (which, reason) => exits.push(`${which}: ${reason}`),
    });
    process.kill(servers.pids[0] ?? 0, 'SIGKILL');
    await eventually(() => {
      assert.match(exits.join(), /^database: PostgreSQL was ended by SIGKILL; its log: \//);
    });
    await servers.stop({ fast: true });
  });
});
