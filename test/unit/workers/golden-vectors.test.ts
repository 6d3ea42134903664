/** The same vectors are read by python/tests, so that both codecs stay one. */
import assert from 'node:assert/strict';

import { ProtocolError } from '../../../src/base/errors.ts';
import { FrameDecoder, encodeFrame } from '../../../src/protocol/frames.ts';
import { packResult, packTask, unpackResult, unpackTask } from '../../../src/protocol/messages.ts';
import { packBuffers, unpackBuffers } from '../../../src/protocol/serialization.ts';
import golden from '../../golden/frames.json' with { type: 'json' };
import wire from '../../golden/wire.json' with { type: 'json' };

describe('golden vectors shared with the Python worker', () => {
  for (const { name, header, body_hex: bodyHex, hex } of golden.frames) {
    it(`frame: ${name}`, () => {
      const body = Buffer.from(bodyHex, 'hex');
      assert.equal(Buffer.concat(encodeFrame(header, body)).toString('hex'), hex);
      const decoder = new FrameDecoder();
      // Byte by byte: the codec must not depend on how the stream is cut.
      const frames = [...Buffer.from(hex, 'hex')].flatMap((byte) =>
        decoder.push(Buffer.from([byte])),
      );
      assert.deepEqual(
        frames.map((frame) => ({ header: frame.header, body: frame.body.toString('hex') })),
        [{ header, body: bodyHex }],
      );
    });
  }

  for (const { name, hex } of golden.invalid) {
    it(`refuses a frame: ${name}`, () => {
      assert.throws(() => new FrameDecoder().push(Buffer.from(hex, 'hex')), ProtocolError);
    });
  }

  for (const { name, buffers, hex } of wire.packed_buffers) {
    it(`packed buffers: ${name}`, () => {
      assert.equal(Buffer.from(packBuffers(buffers)).toString('hex'), hex);
      assert.deepEqual(unpackBuffers(Buffer.from(hex, 'hex').toString()), buffers);
    });
  }

  for (const text of wire.invalid_packed_buffers) {
    it(`refuses packed buffers ${JSON.stringify(text)}`, () => {
      assert.throws(() => unpackBuffers(text), ProtocolError);
    });
  }

  for (const { name, hex, task_id: taskId, task_buffer: taskBuffer } of wire.messages.tasks) {
    it(`task message: ${name}`, () => {
      assert.equal(packTask({ task_id: taskId, task_buffer: taskBuffer }).toString('hex'), hex);
      assert.equal(unpackTask(Buffer.from(hex, 'hex')).task_buffer, taskBuffer);
    });
  }

  for (const { name, hex, started_ns: startedNs, ended_ns: endedNs, ...fields } of wire.messages
    .results) {
    it(`result message: ${name}`, () => {
      const result = {
        ...fields,
        task_statuses: [
          { timestamp: BigInt(startedNs), state: 'execution-start', actor: 'worker' },
          { timestamp: BigInt(endedNs), state: 'execution-end', actor: 'worker' },
        ],
      } as const;
      assert.equal(packResult(result).toString('hex'), hex);
      assert.deepEqual(unpackResult(Buffer.from(hex, 'hex')), result);
    });
  }
});
