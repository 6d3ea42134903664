/** Garbage at every socket of the agent: from a broker, from a worker host, from a command. It costs the connection, nothing else. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import fc from 'fast-check';

import { callControl } from '../../src/agent/control-client.ts';
import { startControlSocket } from '../../src/agent/control-socket.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { encodeFrame } from '../../src/protocol/frames.ts';
import type { FrameHeader } from '../../src/protocol/frames.ts';
import { packTask } from '../../src/protocol/messages.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import { dialAmqp } from '../../src/transport/amqp/connection.ts';
import { AmqpSession } from '../../src/transport/amqp/session.ts';
import { politeScript, startAmqpPeer } from '../support/amqp-peer.ts';
import type { PeerScript } from '../support/amqp-peer.ts';
import { eventually } from '../support/eventually.ts';
import { FUZZ_EXAMPLES, FUZZ_SEED, fuzzed, patienceMs, seedNote } from '../support/fuzz.ts';
import { supervisedHost } from '../support/supervised-host.ts';

const FAST = { baseMs: 5, maxMs: 20 };
/** After which the peer gives up on a client that waits for the rest of what never comes. */
const GARBAGE_LIMIT_MS = 200;
const EXAMPLES = 12;

const pending = new Promise<{ reason: string }>(() => {
  // Never settles: a setup that does not break.
});

const noise = fc.uint8Array({ minLength: 1, maxLength: 400 }).map((bytes) => Buffer.from(bytes));
/** A frame of AMQP with a right shape and random content. */
const amqpFrames = fc
  .tuple(fc.integer({ min: 0, max: 9 }), fc.nat(3), fc.nat(0xff), fc.nat(130), noise)
  .map(([type, channel, classId, methodId, content]) => {
    const payload = Buffer.concat([Buffer.from([0, classId, 0, methodId]), content]);
    const head = Buffer.alloc(7);
    head.writeUInt8(type, 0);
    head.writeUInt16BE(channel, 1);
    head.writeUInt32BE(payload.length, 3);
    return Buffer.concat([head, payload, Buffer.from([0xce])]);
  });

describe(`a broker that sends garbage ${seedNote}`, function () {
  this.timeout(patienceMs(60_000, EXAMPLES));

  it('is dialled again, at whatever point of the handshake it went mad', async () => {
    const moments = ['connect', 'header', '10.11', '10.40', 'online'] as const;
    const madness = fc.record({
      moment: fc.constantFrom(...moments),
      bytes: fc.oneof(noise, amqpFrames),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(madness, { minLength: 1, maxLength: 3 }), async (turns) => {
        const left = [...turns];
        const polite = politeScript();
        const scripts = new WeakMap<object, (typeof turns)[number]>();
        const goMad = (peer: Parameters<PeerScript>[0], bytes: Buffer): void => {
          peer.write(bytes);
          systemClock.after(GARBAGE_LIMIT_MS, () => peer.socket.destroy());
        };
        const peer = await startAmqpPeer(
          (socket, method, channel) => {
            const turn = scripts.get(socket);
            if (turn?.moment === method) {
              goMad(socket, turn.bytes);
              return;
            }
            polite(socket, method, channel);
            if (method === '10.40' && turn?.moment === 'online') {
              goMad(socket, turn.bytes);
            }
          },
          {
            onConnect: (socket) => {
              const turn = left.shift();
              if (turn !== undefined) {
                scripts.set(socket, turn);
                if (turn.moment === 'connect') {
                  goMad(socket, turn.bytes);
                }
              }
            },
          },
        );
        const session = new AmqpSession({
          clock: systemClock,
          logger: silentLogger,
          name: 'test',
          dial: async ({ signal }) =>
            await dialAmqp({
              url: `amqp://guest:guest@127.0.0.1:${peer.port}`,
              connectionName: 'test',
              signal,
            }),
          setUp: async () => await Promise.resolve({ broken: pending }),
          onState: () => undefined,
          backoff: FAST,
        });
        session.start();
        try {
          await eventually(() => {
            assert.equal(left.length, 0);
            assert.equal(session.state.phase, 'online');
          });
        } finally {
          await session.stop();
          await peer.close();
        }
      }),
      fuzzed(EXAMPLES),
    );
  });
});

/** Writes bytes to every socket of its process, as user code that has lost its way might. */
const SCRIBBLER = `f:async function f(hex) {
  const fs = await import('node:fs');
  for (const name of fs.readdirSync('/proc/self/fd')) {
    try {
      if (fs.readlinkSync('/proc/self/fd/' + name).startsWith('socket:')) fs.writeSync(Number(name), Buffer.from(hex, 'hex'));
    } catch {}
  }
  await new Promise((resolve) => setTimeout(resolve, 60_000));
}`;

describe(`a worker host that sends garbage ${seedNote}`, function () {
  this.timeout(patienceMs(60_000, 3));

  it('is replaced, and the agent goes on', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'outpost-fuzz-host-'));
    await mkdir(join(directory, 'tasks'));
    let ready: (() => void) | undefined;
    let lost = 0;
    const host = supervisedHost({
      directory,
      cookie: `fuzz-${process.pid}`,
      threads: 1,
      interpreters: 0,
      config: { workingDir: join(directory, 'tasks') },
      events: {
        onReady: ({ javascript }) => {
          if (javascript > 0) {
            ready?.();
          }
        },
        onLost: () => {
          lost += 1;
        },
        onBroken: (reason) => {
          assert.fail(reason);
        },
      },
    });
    const nextReady = async (): Promise<void> => {
      await new Promise<void>((resolve) => {
        ready = resolve;
      });
    };
    const frames: FrameHeader[] = [
      { type: 'ready', javascript: -1, python: 'many' } as FrameHeader,
      { type: 'nonsense' },
      { type: 'result', task_id: 1 } as FrameHeader,
    ];
    const garbage = fc.oneof(
      // The first byte makes a length that no frame has.
      noise.map((bytes) => Buffer.concat([Buffer.alloc(8, 0xff), bytes])),
      fc.constantFrom(...frames).map((header) => Buffer.concat(encodeFrame(header))),
    );
    try {
      const first = nextReady();
      await host.start();
      await first;
      let expected = 0;
      for (const bytes of fc.sample(garbage, { seed: FUZZ_SEED, numRuns: FUZZ_EXAMPLES ?? 3 })) {
        const pid = host.pid;
        const again = nextReady();
        const taskId = crypto.randomUUID();
        const buffers = packBuffers([
          `js\n${SCRIBBLER}`,
          `11\n["${bytes.toString('hex')}"]`,
          '11\n{}',
        ]);
        host.send(
          { type: 'task', task_id: taskId, nonce: 'n', language: 'javascript' },
          packTask({ task_id: taskId, task_buffer: buffers }),
        );
        await again;
        expected += 1;
        assert.equal(lost, expected);
        assert.notEqual(host.pid, pid);
      }
    } finally {
      await host.stop();
      await rm(directory, { recursive: true, force: true });
    }
  });
});

describe(`a command that sends garbage ${seedNote}`, function () {
  this.timeout(patienceMs(30_000, 100));

  it('gets an error for every line, and the next command its answer', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'outpost-fuzz-control-'));
    const path = join(directory, 'c.sock');
    const control = await startControlSocket({
      path,
      methods: { echo: (params) => params },
      logger: silentLogger,
    });
    const lines = fc.oneof(
      noise,
      fc.json().map((text) => Buffer.from(text)),
      fc
        .record({ id: fc.jsonValue(), method: fc.jsonValue(), params: fc.jsonValue() })
        .map((request) => Buffer.from(JSON.stringify(request))),
      fc
        .constantFrom('__proto__', 'constructor', 'toString')
        .map((method) => Buffer.from(JSON.stringify({ id: 1, method }))),
    );
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(lines, { minLength: 1, maxLength: 5 }), async (sent) => {
          const socket = connect(path);
          let text = '';
          socket.setEncoding('utf8').on('data', (chunk: string) => {
            text += chunk;
          });
          const bytes = Buffer.concat(sent.flatMap((line) => [line, Buffer.from('\n')]));
          socket.end(bytes);
          await once(socket, 'close');
          const answers = text.trim().split('\n');
          for (const answer of answers) {
            const { error, result } = JSON.parse(answer) as Record<string, { code?: string }>;
            assert.ok(result !== undefined || error?.code === 'USAGE', answer);
          }
          assert.deepEqual(await callControl(path, 'echo', { n: 1 }), { n: 1 });
        }),
        fuzzed(100),
      );
    } finally {
      await control.close();
      await rm(directory, { recursive: true });
    }
  });
});
