/** The proxy that tests break connections with does what it says: a fault that did not happen would prove nothing. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

import { eventually } from '../support/eventually.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';

/** Longer than a round trip on loopback takes, by far. */
const SILENCE_MS = 150;

describe('the TCP proxy', () => {
  let echo: Server;
  let proxy: TcpProxy;
  const clients: Socket[] = [];
  let received = '';

  beforeEach(async () => {
    echo = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (chunk) => {
        received += chunk.toString();
        socket.write(chunk);
      });
      socket.on('end', () => {
        socket.end();
      });
    }).listen(0, '127.0.0.1');
    await once(echo, 'listening');
    received = '';
    proxy = await startTcpProxy({ targetPort: (echo.address() as AddressInfo).port });
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) {
      client.destroy();
    }
    await proxy.close();
    await new Promise((resolve) => {
      echo.close(resolve);
    });
  });

  async function dial(): Promise<{ socket: Socket; heard: () => string }> {
    const socket = connect({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true });
    clients.push(socket);
    socket.on('error', () => undefined);
    let text = '';
    socket.on('data', (chunk) => (text += chunk.toString()));
    await once(socket, 'connect');
    return { socket, heard: () => text };
  }

  async function silence(): Promise<void> {
    await new Promise((resolve) => {
      setTimeout(resolve, SILENCE_MS);
    });
  }

  it('holds one direction back, and delivers what it held', async () => {
    const { socket, heard } = await dial();
    proxy.hold('to-clients', true);
    socket.write('one');
    await eventually(() => {
      assert.equal(received, 'one');
    });
    await silence();
    assert.equal(heard(), '');
    proxy.hold('to-clients', false);
    await eventually(() => {
      assert.equal(heard(), 'one');
    });
  });

  it('freezes the connections that stand and no others', async () => {
    const old = await dial();
    old.socket.write('a');
    await eventually(() => {
      assert.equal(old.heard(), 'a');
    });
    proxy.freeze();
    old.socket.write('b');
    const fresh = await dial();
    fresh.socket.write('c');
    await eventually(() => {
      assert.equal(fresh.heard(), 'c');
    });
    await silence();
    assert.equal(old.heard(), 'a');
    assert.equal(received, 'ac');
  });

  it('throttles, and lets go', async () => {
    const { socket, heard } = await dial();
    proxy.throttle(10_000);
    const begun = performance.now();
    socket.write('x'.repeat(2_000));
    await eventually(() => {
      assert.equal(heard().length, 2_000);
    });
    socket.write('y');
    await eventually(() => {
      assert.equal(heard().length, 2_001);
    });
    assert.ok(performance.now() - begun > 150, 'the second write waited for the first');
    proxy.throttle(undefined);
    socket.write('z');
    await eventually(() => {
      assert.equal(heard().length, 2_002);
    });
  });

  it('refuses new connections while told to', async () => {
    proxy.refuse(true);
    const refused = connect({ port: proxy.port, host: '127.0.0.1' });
    clients.push(refused);
    await assert.rejects(once(refused, 'end'), { code: 'ECONNRESET' });
    proxy.refuse(false);
    const taken = await dial();
    taken.socket.write('a');
    await eventually(() => {
      assert.equal(taken.heard(), 'a');
    });
  });

  it('ends the direction towards the clients alone', async () => {
    const { socket } = await dial();
    socket.write('a');
    await eventually(() => {
      assert.equal(received, 'a');
    });
    proxy.halfClose();
    await once(socket, 'end');
    socket.write('b');
    await eventually(() => {
      assert.equal(received, 'ab');
    });
  });
});
