/** The journal's records: what is damaged never turns into something that was not written. */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import type { EncodedRecord, JournalRecord } from '../../../src/agent/journal/record.ts';
import {
  encodeDone,
  encodeIds,
  encodeReceived,
  encodeStarted,
  encodeTombstones,
  recordBytes,
  scanRecords,
  serializeRecord,
} from '../../../src/agent/journal/record.ts';
import { WriteBatch } from '../../../src/agent/journal/write-batch.ts';
import { ComputeError } from '../../../src/base/errors.ts';
import { taskKey } from '../../../src/protocol/task-id.ts';

const SALT = 0x1234abcd;

const taskIds = fc.oneof(fc.uuid(), fc.string({ minLength: 1, maxLength: 60 }));
const buffers = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
const counts = fc.nat(1_000_000);

const records: fc.Arbitrary<EncodedRecord> = fc.oneof(
  fc
    .tuple(taskIds, fc.boolean(), counts, fc.string(), buffers)
    .map(([id, started, n, meta, body]) => encodeReceived(id, started, n, meta, body)),
  fc.tuple(taskIds, counts).map(([id, n]) => encodeStarted(id, n)),
  fc
    .tuple(taskIds, counts, fc.string({ unit: 'grapheme' }), fc.string(), buffers)
    .map(([id, n, meta, headers, body]) => encodeDone(id, n, meta, headers, body)),
  fc
    .tuple(fc.constantFrom('confirmed' as const, 'handedBack' as const), fc.array(taskIds))
    .map(([type, ids]) => encodeIds(type, ids)),
  fc
    .tuple(counts, fc.array(fc.uuid(), { maxLength: 5 }))
    .map(([at, ids]) =>
      encodeTombstones(at, Buffer.concat(ids.map((id) => Buffer.from(taskKey(id))))),
    ),
);
const histories = fc.array(records, { minLength: 1, maxLength: 12 });

function scan(
  bytes: Buffer,
  salt = SALT,
): { found: JournalRecord[]; raw: string[]; damages: number } {
  const found: JournalRecord[] = [];
  const raw: string[] = [];
  const damages = scanRecords(bytes, 0, salt, (record, offset, length) => {
    found.push(record);
    raw.push(bytes.toString('hex', offset + 8, offset + length));
  });
  return { found, raw, damages: damages.length };
}

function serialize(history: EncodedRecord[], salt = SALT): Buffer {
  return Buffer.concat(history.map((record) => serializeRecord(record, salt)));
}

describe('journal records', () => {
  it('come back as they were written', () => {
    const id = 'c0ffee00-1111-4222-8333-444455556666';
    const history = [
      encodeReceived(id, true, 1, '{"a":1}', Buffer.from('body')),
      encodeStarted(id, 2),
      encodeDone(id, 2, '{}', '{"h":1}', Buffer.from('out')),
      encodeIds('confirmed', [id, 'no uuid, but ünique']),
    ];
    assert.deepEqual(scan(serialize(history)).found, [
      {
        type: 'received',
        taskId: id,
        started: true,
        attempts: 1,
        meta: Buffer.from('{"a":1}'),
        body: Buffer.from('body'),
      },
      { type: 'started', taskId: id, attempts: 2 },
      {
        type: 'done',
        taskId: id,
        attempts: 2,
        meta: Buffer.from('{}'),
        headers: Buffer.from('{"h":1}'),
        body: Buffer.from('out'),
      },
      { type: 'confirmed', taskIds: [id, 'no uuid, but ünique'] },
    ]);
  });

  it('are the same bytes in a batch as alone', () => {
    fc.assert(
      fc.property(fc.array(records, { maxLength: 40 }), fc.boolean(), (history, large) => {
        const all = large
          ? [
              ...history,
              encodeReceived('x', false, 0, 'm'.repeat(70_000), Buffer.alloc(400_000, 2)),
              ...history,
            ]
          : history;
        const batch = new WriteBatch();
        batch.begin(SALT);
        assert.ok(all.every((record) => batch.add(record)));
        assert.ok(Buffer.concat(batch.buffers()).equals(serialize(all)));
        assert.equal(
          batch.bytes,
          all.reduce((sum, record) => sum + recordBytes(record), 0),
        );
      }),
    );
  });

  it('keep a batch right when its slab has to grow and when it is full', () => {
    const record = encodeReceived('x', false, 0, '', Buffer.alloc(30_000, 3));
    const batch = new WriteBatch();
    for (let round = 0; round < 2; round += 1) {
      batch.begin(SALT);
      let count = 0;
      while (batch.add(record)) {
        count += 1;
      }
      assert.ok(count > 100);
      assert.equal(scan(Buffer.concat(batch.buffers())).found.length, count);
    }
  });

  it('read as a prefix of the history when cut at any byte', () => {
    fc.assert(
      fc.property(histories, (history) => {
        const whole = serialize(history);
        const written = scan(whole).raw;
        for (let end = 0; end <= whole.length; end += 1) {
          const { raw } = scan(whole.subarray(0, end));
          assert.deepEqual(raw, written.slice(0, raw.length));
        }
      }),
      { numRuns: 30 },
    );
  });

  it('never turn into other records by flipped bits', () => {
    fc.assert(
      fc.property(
        histories,
        fc.array(fc.nat(), { minLength: 1, maxLength: 4 }),
        (history, flips) => {
          const bytes = serialize(history);
          const written = scan(bytes).raw;
          for (const flip of flips) {
            const at = Math.floor(flip / 8) % bytes.length;
            bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << (flip % 8)), at);
          }
          // What is left is what was written, in its order.
          let from = 0;
          for (const record of scan(bytes).raw) {
            const at = written.indexOf(record, from);
            assert.notEqual(at, -1);
            from = at + 1;
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('lose no more than the damaged record to one flipped bit', () => {
    const history = Array.from({ length: 20 }, (_, n) => encodeStarted(`task-${n}`, n));
    const bytes = serialize(history);
    const at = Math.floor(bytes.length / 2);
    bytes.writeUInt8(bytes.readUInt8(at) ^ 4, at);
    const { found, damages } = scan(bytes);
    assert.deepEqual([found.length, damages], [19, 1]);
  });

  it('do not take a journal that somebody sent as a body for their own', () => {
    const foreign = serialize([encodeStarted('forged', 7)], SALT + 1);
    const bytes = serialize([encodeReceived('real', false, 0, '', foreign)]);
    bytes.writeUInt8(bytes.readUInt8(9) ^ 1, 9);
    assert.deepEqual(scan(bytes).found, []);
  });

  it('scan hostile bytes in bounded time', () => {
    // Every second offset looks like the header of a record of 64 KiB.
    const bytes = Buffer.alloc(8 * 1024 * 1024);
    for (let at = 0; at < bytes.length; at += 2) {
      bytes[at] = 1;
    }
    assert.deepEqual(scan(bytes).found, []);
  });

  it('refuse a task id that is empty or too long', () => {
    for (const taskId of ['', 'x'.repeat(256)]) {
      assert.throws(
        () => encodeStarted(taskId, 1),
        (error) => error instanceof ComputeError && error.code === 'ENVELOPE_INVALID',
      );
    }
  });
});
