/** Journal records that are whole by their checksum and nonsense inside: skipped as damage, never an exception. */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import { checksum, checksumSeed, scanRecords } from '../../../src/agent/journal/record.ts';
import type { JournalRecord } from '../../../src/agent/journal/record.ts';
import { decodeHeader } from '../../../src/agent/journal/segment.ts';
import { taskKey } from '../../../src/protocol/task-id.ts';
import { fuzzed, patienceMs, seedNote } from '../../support/fuzz.ts';

const EXAMPLES = 500;
const SALT = 0x1234_5678;

/** A record with a right checksum, whatever it holds. */
function sealed(type: number, payload: Uint8Array): Buffer {
  const content = Buffer.concat([Buffer.from([type]), payload]);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(content.length, 0);
  head.writeUInt32LE(checksum(content, checksumSeed(SALT, content.length)), 4);
  return Buffer.concat([head, content]);
}

function idsOf(record: JournalRecord): readonly string[] {
  switch (record.type) {
    case 'confirmed':
    case 'handedBack':
      return record.taskIds;
    case 'tombstones':
      return [];
    case 'received':
    case 'started':
    case 'done':
      return [record.taskId];
  }
}

describe(`journal records, fuzzed ${seedNote}`, function () {
  this.timeout(patienceMs(20_000, EXAMPLES));

  const payloads = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    // An id of text with a length that may be right, and bytes that are no UTF-8.
    fc
      .tuple(
        fc.nat(255),
        fc.oneof(
          fc.uint8Array({ minLength: 1, maxLength: 255 }),
          fc.integer({ min: 86, max: 255 }).map((count) => new Uint8Array(count).fill(0xff)),
        ),
      )
      .map(([length, bytes]) =>
        Uint8Array.from([length === 0 ? bytes.length : length, ...bytes, 0, 0, 0, 0, 0]),
      ),
  );
  const segments = fc.array(fc.tuple(fc.integer({ min: 0, max: 8 }), payloads), { maxLength: 6 });

  it('with a right checksum and any content are read or skipped, and account for every byte', () => {
    fc.assert(
      fc.property(segments, fc.uint8Array({ maxLength: 20 }), (records, tail) => {
        const bytes = Buffer.concat([...records.map((parts) => sealed(...parts)), tail]);
        let read = 0;
        const damages = scanRecords(bytes, 0, SALT, (record, _offset, length) => {
          read += length;
          for (const taskId of idsOf(record)) {
            // What replay does with it: an id that was read must be one that can be written.
            assert.equal(taskKey(taskId).length, 16);
          }
        });
        const skipped = damages.reduce((sum, damage) => sum + damage.bytes, 0);
        assert.equal(read + skipped, bytes.length);
      }),
      fuzzed(EXAMPLES),
    );
  });

  it('stand behind a header that is read or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (noise) => {
        assert.equal(decodeHeader(Buffer.from(noise), 'x'), undefined);
        const magic = Buffer.concat([Buffer.from('OPJL\x01\x00'), noise]);
        assert.equal(decodeHeader(magic, 'x'), undefined);
      }),
      fuzzed(EXAMPLES),
    );
  });
});

describe('journal records that random input found', () => {
  it('with a task id that is not UTF-8, too long once it is text, count as damage', () => {
    const id = Buffer.alloc(200, 0xff);
    const bytes = sealed(4, Buffer.concat([Buffer.from([id.length]), id]));
    const seen: JournalRecord[] = [];
    const damages = scanRecords(bytes, 0, SALT, (record) => seen.push(record));
    assert.deepEqual(seen, []);
    assert.equal(damages.length, 1);
  });
});
