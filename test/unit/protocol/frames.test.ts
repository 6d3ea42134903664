import assert from 'node:assert/strict';

import fc from 'fast-check';

import { FrameDecoder, encodeFrame } from '../../../src/protocol/frames.ts';
import { FRAME_BYTES_MAX } from '../../../src/protocol/limits.ts';

interface Seen {
  readonly header: unknown;
  readonly body: string;
}

function decodeInChunks(bytes: Buffer, sizes: readonly number[]): Seen[] {
  const decoder = new FrameDecoder();
  const seen: Seen[] = [];
  let offset = 0;
  for (let turn = 0; offset < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    for (const { header, body } of decoder.push(bytes.subarray(offset, offset + size))) {
      seen.push({ header, body: body.toString('hex') });
    }
    offset += size;
  }
  assert.equal(decoder.pendingBytes, 0);
  return seen;
}

describe('frames', () => {
  it('come out whole and in order however the stream is cut', () => {
    const frame = fc.record({
      text: fc.string({ unit: 'binary' }),
      body: fc.uint8Array({ maxLength: 200 }),
    });
    fc.assert(
      fc.property(
        fc.array(frame, { minLength: 1, maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: 8 }),
        (frames, sizes) => {
          const bytes = Buffer.concat(
            frames.flatMap(({ text, body }) => encodeFrame({ type: 'x', text } as never, body)),
          );
          assert.deepEqual(
            decodeInChunks(bytes, sizes),
            frames.map(({ text, body }) => ({
              // A lone surrogate has no UTF-8 form; JSON.stringify escapes it and so keeps it.
              header: { type: 'x', text },
              body: Buffer.from(body).toString('hex'),
            })),
          );
        },
      ),
    );
  });

  it('over the limit are refused before they are stored', () => {
    const prefix = Buffer.alloc(8);
    prefix.writeUInt32BE(FRAME_BYTES_MAX + 1, 0);
    assert.throws(() => new FrameDecoder().push(prefix), { code: 'FRAME_INVALID' });
    assert.throws(() => encodeFrame({ type: 'x' }, Buffer.alloc(FRAME_BYTES_MAX)), {
      code: 'PAYLOAD_TOO_LARGE',
    });
  });

  it('never do worse than a named refusal on garbage', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          new FrameDecoder().push(Buffer.from(bytes));
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'FRAME_INVALID');
        }
      }),
    );
  });
});
