/** The listener for health and metrics: whom it answers, and that it is no way in for others. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import type { RequestOptions } from 'node:http';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as readAll } from 'node:stream/consumers';

import { HttpListener } from '../../src/agent/health/http-listener.ts';
import type { ListenTarget } from '../../src/agent/health/http-listener.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { eventually } from '../support/eventually.ts';

async function ask(options: RequestOptions): Promise<{ status: number; body: string }> {
  const asked = request({ agent: false, path: '/healthz', ...options }).end();
  const [response] = (await once(asked, 'response')) as [Parameters<typeof readAll>[0] & { statusCode: number }]; // prettier-ignore
  return { status: response.statusCode, body: await readAll(response) };
}

describe('listener for health and metrics', () => {
  let directory: string;
  let listeners: HttpListener[];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'outpost-listener-'));
    listeners = [];
  });

  afterEach(async () => {
    await Promise.all(listeners.map(async (listener) => { await listener.close(); })); // prettier-ignore
    await rm(directory, { recursive: true });
  });

  async function listen(target: ListenTarget, clock: Clock = systemClock): Promise<HttpListener> {
    const listener = new HttpListener({
      target,
      clock,
      logger: silentLogger,
      routes: new Map([
        ['/healthz', () => ({ status: 200, contentType: 'text/plain', body: 'fine\n' })],
        [
          '/broken',
          () => {
            throw new TypeError('broken');
          },
        ],
      ]),
    });
    listeners.push(listener);
    await listener.start();
    return listener;
  }

  it('is a socket that only its owner can open, and replaces what a killed agent has left', async () => {
    const path = join(directory, 's');
    const listener = await listen({ path });
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.deepEqual(await ask({ socketPath: path }), { status: 200, body: 'fine\n' });
    await listener.close();
    await assert.rejects(stat(path), { code: 'ENOENT' });
    const code = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => console.log())`;
    const other = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(other.stdout, 'data');
    assert.equal((await listen({ path })).address, undefined, 'somebody answers there');
    other.kill('SIGKILL');
    await once(other, 'exit');
    assert.equal((await stat(path)).isSocket(), true);
    await listen({ path });
    assert.equal((await ask({ socketPath: path })).status, 200);
  });

  it('does not touch a file that is no socket', async () => {
    const path = join(directory, 'precious');
    await writeFile(path, 'mine');
    const listener = await listen({ path });
    assert.equal(listener.address, undefined);
    assert.equal((await stat(path)).isFile(), true);
  });

  it('answers known paths only, and only to be read', async () => {
    const { address } = await listen({ host: '127.0.0.1', port: 0 });
    assert.ok(address !== undefined && 'port' in address);
    const { port } = address;
    assert.equal((await ask({ port })).body, 'fine\n');
    assert.equal((await ask({ port, method: 'HEAD' })).body, '');
    assert.equal((await ask({ port, path: '/healthz?x=1' })).status, 200);
    assert.equal((await ask({ port, path: '/constructor' })).status, 404);
    assert.equal((await ask({ port, method: 'POST' })).status, 405);
    assert.equal((await ask({ port, path: '/broken' })).status, 500);
    for (const [host, status] of [
      ['localhost', 200],
      [`127.0.0.1:${port}`, 200],
      ['[::1]:1', 200],
      ['evil.example', 403],
      [`evil.example:${port}`, 403],
    ] as const) {
      assert.equal((await ask({ port, headers: { host } })).status, status, host);
    }
  });

  it('comes later where the place is taken, without having failed anybody', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    let attemptCount = 0;
    const quick: Clock = {
      ...systemClock,
      after: (_delayMs, callback, options) => {
        attemptCount += 1;
        return systemClock.after(5, callback, options);
      },
    };
    const warnings: string[] = [];
    const onWarning = (warning: Error): void => {
      warnings.push(warning.message);
    };
    process.on('warning', onWarning);
    const listener = await listen({ host: '127.0.0.1', port }, quick);
    assert.equal(listener.address, undefined);
    await eventually(() => {
      assert.ok(attemptCount > 20);
    });
    other.close();
    await eventually(async () => {
      assert.equal((await ask({ port })).status, 200);
    });
    process.off('warning', onWarning);
    assert.deepEqual(warnings, [], 'an attempt leaves nothing behind');
  });

  it('ends connections that say nothing when it is closed', async () => {
    const listener = await listen({ host: '127.0.0.1', port: 0 });
    const { address } = listener;
    assert.ok(address !== undefined && 'port' in address);
    const silent = connect(address.port, '127.0.0.1').on('error', () => undefined);
    await once(silent, 'connect');
    const closed = once(silent, 'close');
    await listener.close();
    await closed;
  });
});
