/** What a service manager hears of a service: real datagrams, to a path and to an abstract name. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { DgramSocket } from 'node-unix-socket';

import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { openNotifySocket } from '../../src/transport/systemd/notify-socket.ts';
import { ServiceReporter } from '../../src/transport/systemd/service-reporter.ts';
import { eventually } from '../support/eventually.ts';
import { recordingLogger } from '../support/task-plane.ts';

/** Prints the first datagram that comes to an abstract address. */
const ABSTRACT_RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\\0" + sys.argv[1])
print("bound", flush=True)
print(s.recv(4096).decode(), flush=True)
`;

describe('notifications to a service manager', () => {
  let directory: string;
  let path: string;
  let manager: DgramSocket;
  let heard: string[];
  let reporter: ServiceReporter | undefined;
  let state: string;
  let isProgressing: boolean;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'outpost-notify-'));
    path = join(directory, 'notify');
    heard = [];
    manager = new DgramSocket();
    manager.bind(path);
    manager.on('data', (bytes: Buffer) => heard.push(bytes.toString()));
    state = 'starting';
    isProgressing = true;
  });

  afterEach(() => {
    reporter?.close();
    manager.close();
    rmSync(directory, { recursive: true, force: true });
  });

  async function open(watchdogMs?: number): Promise<ServiceReporter> {
    reporter = await ServiceReporter.open({
      notification: { socket: path, ...(watchdogMs !== undefined && { watchdogMs }) },
      describe: () => state,
      isProgressing: () => isProgressing,
      clock: systemClock,
      logger: silentLogger,
    });
    return reporter;
  }

  async function hears(...expected: (string | RegExp)[]): Promise<void> {
    await eventually(() => {
      assert.equal(heard.length, expected.length, heard.join('|'));
    });
    expected.forEach((one, index) => {
      assert.match(heard[index] ?? '', one instanceof RegExp ? one : new RegExp(`^${one}$`));
    });
  }

  it('are made once for each thing that happens, in words that change only with it', async () => {
    const service = await open();
    service.update();
    state = 'online,\nendpoint 1';
    service.ready();
    service.ready();
    service.reloading();
    service.reloaded();
    state = 'stopping';
    service.stopping(90_000);
    service.stopping();
    service.reloaded();
    await hears(
      'STATUS=starting',
      'READY=1',
      'STATUS=online, endpoint 1',
      /^RELOADING=1\nMONOTONIC_USEC=\d+$/,
      'READY=1',
      'STOPPING=1\nEXTEND_TIMEOUT_USEC=90000000',
      'STATUS=stopping',
    );
  });

  it('are signs of life at half of the time allowed, as long as there is progress', async () => {
    const service = await open(100);
    const signs = (): number => heard.filter((text) => text === 'WATCHDOG=1').length;
    service.ready();
    await eventually(() => {
      assert.ok(signs() >= 4);
    });
    isProgressing = false;
    // One may be on its way: what is sent after it is heard after it.
    state = 'stuck';
    service.update();
    await eventually(() => {
      assert.equal(heard.at(-1), 'STATUS=stuck');
    });
    const before = signs();
    await new Promise((resolve) => {
      setTimeout(resolve, 250);
    });
    assert.equal(signs(), before);
    isProgressing = true;
    await eventually(() => {
      assert.ok(signs() > before);
    });
  });

  it('go to an abstract address too', async () => {
    const name = `outpost-test-${process.pid}`;
    const receiver = spawn('/usr/bin/python3', ['-c', ABSTRACT_RECEIVER, name]);
    let said = '';
    receiver.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    await eventually(() => {
      assert.match(said, /^bound$/m);
    });
    const socket = await openNotifySocket(`@${name}`, silentLogger);
    socket.send({ READY: 1, STATUS: 'here and\nnow' });
    await once(receiver, 'exit');
    socket.close();
    assert.match(said, /READY=1\nSTATUS=here and now/);
  });

  it('are missed by nobody but the log, once, when there is no manager', async () => {
    const { logger, lines } = recordingLogger();
    const socket = await openNotifySocket(join(directory, 'nobody'), logger);
    socket.send({ READY: 1 });
    socket.send({ STATUS: 'lost' });
    await eventually(() => {
      assert.equal(lines.length, 1);
    });
    socket.close();
  });
});
