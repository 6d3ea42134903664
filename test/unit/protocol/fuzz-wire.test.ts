/** The wire under random and damaged input: frames, envelopes and packed buffers end in a value or in a refusal with a name. */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import { ProtocolError } from '../../../src/base/errors.ts';
import { encodeFrame, FrameDecoder } from '../../../src/protocol/frames.ts';
import { checkHostFrame } from '../../../src/protocol/host-frame-check.ts';
import {
  packEpStatusReport,
  packResult,
  packTask,
  peekCodeId,
  unpackEpStatusReport,
  unpackResult,
  unpackTask,
} from '../../../src/protocol/messages.ts';
import {
  packBuffers,
  splitSerialized,
  unpackBuffers,
} from '../../../src/protocol/serialization.ts';
import { ACTOR_NAMES, TASK_STATES } from '../../../src/protocol/task-state.ts';
import { fuzzed, patienceMs, seedNote } from '../../support/fuzz.ts';
import { damagedBytes, jsonObjects, packedTexts, texts } from '../../support/wire-arbitraries.ts';

const EXAMPLES = 200;

/** An object as a parser makes it, whose fields are random. */
function plainRecord<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true });
}

const transitions = fc.array(
  plainRecord({
    timestamp: fc.bigInt({ min: 0n, max: 10n ** 21n }),
    state: fc.constantFrom(...TASK_STATES),
    actor: fc.constantFrom(...ACTOR_NAMES),
  }),
  { maxLength: 4 },
);
const tasks = plainRecord({ task_id: fc.uuid(), task_buffer: texts });
const results = plainRecord({
  task_id: fc.uuid(),
  data: texts,
  details: fc.option(jsonObjects),
  error_details: fc.option(plainRecord({ code: texts, user_message: texts })),
  task_statuses: fc.option(transitions),
});
const reports = plainRecord({
  endpoint_id: fc.uuid(),
  global_state: jsonObjects,
  task_statuses: fc.dictionary(fc.uuid(), transitions, { maxKeys: 3, noNullPrototype: true }),
});

/** Runs a reader that may refuse, but only with one of these codes and a sentence. */
function refusesByName(codes: readonly string[], read: () => unknown): void {
  try {
    read();
  } catch (error) {
    assert.ok(error instanceof ProtocolError, String((error as Error).stack ?? error));
    assert.ok(codes.includes(error.code), error.code);
    assert.ok(error.message.length > 10 && error.message.length < 500, error.message);
  }
}

function readEnvelopes(bytes: Uint8Array): void {
  const codes = ['ENVELOPE_INVALID', 'MESSAGE_TYPE_UNKNOWN'];
  for (const read of [unpackTask, unpackResult, unpackEpStatusReport]) {
    refusesByName(codes, () => read(bytes));
  }
  refusesByName([...codes, 'BUFFER_INVALID'], () => peekCodeId(Buffer.from(bytes)));
}

/** What a decoder makes of a stream cut into pieces: frames, and the refusal that ends it. */
function decode(bytes: Buffer, cuts: readonly number[]): { frames: string[]; pending: number } {
  const decoder = new FrameDecoder();
  const frames: string[] = [];
  let from = 0;
  for (const cut of [
    ...cuts.filter((at) => at < bytes.length).sort((a, b) => a - b),
    bytes.length,
  ]) {
    for (const { header, body } of decoder.push(bytes.subarray(from, cut))) {
      frames.push(`${JSON.stringify(header)} ${body.toString('hex')}`);
    }
    from = cut;
  }
  return { frames, pending: decoder.pendingBytes };
}

describe(`the wire, fuzzed ${seedNote}`, function () {
  this.timeout(patienceMs(20_000, EXAMPLES));

  const headers = jsonObjects.map((object) => ({ ...object, type: 'x' }));
  const streams = fc
    .array(fc.tuple(headers, fc.uint8Array({ maxLength: 80 })), { maxLength: 5 })
    .map((frames) => Buffer.concat(frames.flatMap(([header, body]) => encodeFrame(header, body))));

  it('cuts any chunks of a stream, and any beginning of it, into the same frames', () => {
    fc.assert(
      fc.property(streams, fc.array(fc.nat(600)), fc.nat(2000), (bytes, cuts, end) => {
        const whole = decode(bytes, []);
        assert.equal(whole.pending, 0);
        assert.deepEqual(decode(bytes, cuts), whole);
        const part = decode(bytes.subarray(0, end % (bytes.length + 1)), cuts);
        assert.deepEqual(part.frames, whole.frames.slice(0, part.frames.length));
      }),
      fuzzed(EXAMPLES),
    );
  });

  it('refuses damaged frames by name, at the same place however they are cut', () => {
    fc.assert(
      fc.property(damagedBytes(streams), fc.array(fc.nat(600)), (bytes, cuts) => {
        refusesByName(['FRAME_INVALID'], () => decode(bytes, []));
        const verdict = (by: readonly number[]): string => {
          try {
            return String(decode(bytes, by).frames);
          } catch (error) {
            return (error as ProtocolError).message;
          }
        };
        assert.equal(verdict(cuts), verdict([]));
      }),
      fuzzed(EXAMPLES),
    );
  });

  it('allocates nothing for a length that is only claimed', () => {
    const before = process.memoryUsage().arrayBuffers;
    fc.assert(
      fc.property(fc.nat(0xffffffff), fc.nat(0xffffffff), (length, headerLength) => {
        const prefix = Buffer.alloc(8);
        prefix.writeUInt32BE(length, 0);
        prefix.writeUInt32BE(headerLength, 4);
        const decoder = new FrameDecoder();
        refusesByName(['FRAME_INVALID'], () => decoder.push(prefix));
        assert.ok(decoder.pendingBytes <= 8);
        refusesByName(['BUFFER_INVALID'], () => unpackBuffers(`${length}\nx`));
      }),
      fuzzed(EXAMPLES),
    );
    assert.ok(process.memoryUsage().arrayBuffers - before < 16 * 1024 * 1024);
  });

  it('checks every field of what a worker host says', () => {
    const types = ['hello', 'ready', 'result', 'failed', 'returned', 'degraded', '__proto__', 'x'];
    const fields = fc.dictionary(
      fc.constantFrom(
        'version',
        'token',
        'pid',
        'javascript',
        'python',
        'task_id',
        'nonce',
        'output',
      ),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(fc.constantFrom(...types), fields, (type, more) => {
        refusesByName(['FRAME_INVALID'], () => checkHostFrame({ ...more, type }));
      }),
      fuzzed(EXAMPLES),
    );
  });

  it('reads back every message that it writes', () => {
    fc.assert(
      fc.property(tasks, results, reports, (task, result, report) => {
        assert.deepEqual(unpackTask(packTask(task)), task);
        assert.deepEqual(unpackResult(packResult(result)), result);
        assert.deepEqual(unpackEpStatusReport(packEpStatusReport(report)), report);
      }),
      fuzzed(EXAMPLES),
    );
  });

  it('refuses damaged messages by name', () => {
    const messages = fc.oneof(
      tasks.map(packTask),
      results.map(packResult),
      reports.map(packEpStatusReport),
      jsonObjects.map((object) => Buffer.from(`\x01${JSON.stringify(object)}`)),
    );
    fc.assert(fc.property(damagedBytes(messages), readEnvelopes), fuzzed(EXAMPLES));
    fc.assert(
      fc.property(tasks.map(packTask), fc.nat(), (bytes, at) => {
        const beginning = bytes.subarray(0, at % bytes.length);
        assert.throws(() => unpackTask(beginning), { code: 'ENVELOPE_INVALID' });
      }),
      fuzzed(EXAMPLES),
    );
  });

  it('reads back what it packs, refuses the rest by name, and repacks what it reads', () => {
    fc.assert(
      fc.property(fc.array(texts, { maxLength: 5 }), packedTexts, (buffers, packed) => {
        assert.deepEqual(unpackBuffers(packBuffers(buffers)), buffers);
        refusesByName(['BUFFER_INVALID'], () => {
          const read = unpackBuffers(packed);
          assert.deepEqual(unpackBuffers(packBuffers(read)), read);
          read.forEach(splitSerialized);
        });
      }),
      fuzzed(EXAMPLES),
    );
  });

  it('peeks at the same code identifier as it reads', () => {
    const codes = fc.tuple(fc.stringMatching(/^[0-9a-z]{2}$/), texts);
    fc.assert(
      fc.property(fc.uuid(), codes, fc.array(texts), (taskId, [id, payload], others) => {
        const buffers = [`${id}\n${payload}`, ...others];
        const body = packTask({ task_id: taskId, task_buffer: packBuffers(buffers) });
        assert.equal(peekCodeId(body), id);
      }),
      fuzzed(EXAMPLES),
    );
  });
});

describe('messages that random input found', () => {
  const taskId = '11111111-2222-4333-8444-555555555555';
  const resultOf = (details: string, statuses = 'null'): Buffer =>
    Buffer.from(
      `\x01{"message_type":"result","data":{"task_id":"${taskId}","data":"","details":${details},` +
        `"error_details":null,"task_statuses":${statuses}}}`,
    );

  it('keep a large number called timestamp a number outside of transitions', () => {
    assert.deepEqual(unpackResult(resultOf('{"timestamp":9007199254740993}')).details, {
      timestamp: 9007199254740992,
    });
    assert.deepEqual(unpackResult(resultOf('{"timestamp":12345678901234567.5}')).details, {
      timestamp: 12345678901234568,
    });
  });

  it('refuse a timestamp that is empty, hexadecimal or no integer', () => {
    for (const timestamp of ['""', '"0x10"', '" 1 "', '1.5', '1e300', 'null', '-1.5']) {
      const statuses = `[{"timestamp":${timestamp},"state":"running","actor":"worker"}]`;
      assert.throws(() => unpackResult(resultOf('null', statuses)), { code: 'ENVELOPE_INVALID' });
    }
  });

  it('are refused when they are not UTF-8, or nested so deep that nobody could write them again', () => {
    const broken = Buffer.concat([resultOf('null').subarray(0, -1), Buffer.from([0xff, 0x7d])]);
    assert.throws(() => unpackResult(broken), /not UTF-8/);
    const deep = `${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`;
    assert.throws(() => unpackResult(resultOf(deep)), { code: 'ENVELOPE_INVALID' });
    const header = Buffer.from('{"type":"x\xff"}', 'latin1');
    const prefix = Buffer.alloc(8);
    prefix.writeUInt32BE(4 + header.length, 0);
    prefix.writeUInt32BE(header.length, 4);
    assert.throws(() => new FrameDecoder().push(Buffer.concat([prefix, header])), /not UTF-8/);
  });

  it('of a worker host are refused when a field has another type', () => {
    for (const header of [
      { type: 'ready', javascript: '2', python: 0 },
      { type: 'ready', javascript: 1e9, python: 0 },
      { type: 'result', task_id: taskId, nonce: 'n', failed: false, output: { stdout: 5 } },
      { type: 'failed', task_id: taskId, nonce: 'n', code: 'X', message: null, worker_lost: true },
      { type: 'returned', nonces: 'n' },
      { type: 'constructor' },
    ]) {
      assert.throws(() => checkHostFrame(header), { code: 'FRAME_INVALID' });
    }
  });
});
