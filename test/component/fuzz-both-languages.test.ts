/**
 * The two readers of the wire held against each other: random and damaged frames, task messages and packed buffers go through this
 * code and through python/outpost_worker.py, and both must accept or refuse the same ones, with the same value.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

import fc from 'fast-check';

import { packageRoot } from '../../src/base/package-root.ts';
import { encodeFrame, FrameDecoder } from '../../src/protocol/frames.ts';
import { packTask, unpackTask } from '../../src/protocol/messages.ts';
import { packBuffers, unpackBuffers } from '../../src/protocol/serialization.ts';
import { FUZZ_EXAMPLES, FUZZ_SEED, patienceMs, seedNote } from '../support/fuzz.ts';
import { damagedBytes, jsonObjects, packedTexts, texts } from '../support/wire-arbitraries.ts';
import { PYTHON } from '../support/worker-host.ts';

const EXAMPLES = 1000;
const TASK_ID = '11111111-2222-4333-8444-555555555555';

/** Reads one case a line, answers one verdict a line. Texts cross as JSON, so that lone surrogates survive. */
const READER = `
import io, json, sys
sys.path.insert(0, sys.argv[1])
import outpost_worker as worker

def frame(data):
    stream, frames = io.BytesIO(data), []
    while stream.tell() < len(data):
        header, body = worker.read_frame(stream)
        frames.append([header["type"], body.hex()])
    return frames

READ = {"frame": frame, "task": worker.unpack_task, "buffers": worker.unpack_buffers}
for line in sys.stdin:
    kind, value = json.loads(line)
    try:
        verdict = READ[kind](value if kind == "buffers" else bytes.fromhex(value))
    except (worker.FrameError, worker.EnvelopeError, worker.DeserializationError):
        verdict = "refused"
    print(json.dumps(verdict))
`;

type Case = readonly ['frame' | 'task' | 'buffers', string];

function readFrames(bytes: Buffer): unknown {
  const decoder = new FrameDecoder();
  const frames = decoder.push(bytes).map(({ header, body }) => [header.type, body.toString('hex')]);
  return decoder.pendingBytes === 0 ? frames : 'refused';
}

function read([kind, value]: Case): unknown {
  try {
    switch (kind) {
      case 'frame':
        return readFrames(Buffer.from(value, 'hex'));
      case 'task':
        return unpackTask(Buffer.from(value, 'hex')).task_buffer;
      case 'buffers':
        return unpackBuffers(value);
    }
  } catch (error) {
    assert.match(String((error as { code?: string }).code), /^(FRAME|ENVELOPE|BUFFER|MESSAGE)_/);
    return 'refused';
  }
}

async function readInPython(cases: readonly Case[]): Promise<unknown[]> {
  const child = spawn(PYTHON, ['-B', '-c', READER, join(packageRoot(), 'python')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  child.stdin.end(cases.map((one) => `${JSON.stringify(one)}\n`).join(''));
  const [code] = (await once(child, 'close')) as [number | null];
  assert.equal(code, 0);
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
}

/** Frames with numbers of thousands of digits and keys that only Python counts are not what either side writes. */
const header = jsonObjects.map((more) => ({ ...more, type: String(more['type']) }));
const stream = fc
  .array(fc.tuple(header, fc.uint8Array({ maxLength: 40 })), { minLength: 1, maxLength: 3 })
  .map((frames) => Buffer.concat(frames.flatMap(([head, body]) => encodeFrame(head, body))));
const task = fc.oneof(
  texts.map((text) => packTask({ task_id: TASK_ID, task_buffer: text })),
  jsonObjects.map((more) =>
    Buffer.from(
      `\x01${JSON.stringify({ message_type: 'task', data: { ...more, task_id: TASK_ID } })}`,
    ),
  ),
);
const hex = (bytes: Buffer): string => bytes.toString('hex');
const cases: fc.Arbitrary<Case> = fc.oneof(
  fc.oneof(stream, damagedBytes(stream)).map((bytes): Case => ['frame', hex(bytes)]),
  fc.oneof(task, damagedBytes(task)).map((bytes): Case => ['task', hex(bytes)]),
  fc
    .oneof(packedTexts, fc.array(texts).map(packBuffers))
    .map((packed): Case => ['buffers', packed]),
);

/** A damaged task may lose its id, which the shim takes from elsewhere: only the buffer is compared then. */
function lostItsId([kind, value]: Case): boolean {
  try {
    unpackTask(Buffer.from(kind === 'task' ? value : '', 'hex'));
    return false;
  } catch (error) {
    return kind === 'task' && (error as Error).message.includes('task_id');
  }
}

describe(`the two readers of the wire ${seedNote}`, function () {
  this.timeout(patienceMs(60_000, EXAMPLES));

  it('agree about every input', async () => {
    const chosen = fc
      .sample(cases, { seed: FUZZ_SEED, numRuns: FUZZ_EXAMPLES ?? EXAMPLES })
      .filter((one) => !lostItsId(one));
    const verdicts = await readInPython(chosen);
    chosen.forEach((one, index) => {
      assert.deepEqual(
        verdicts[index],
        read(one),
        `Python and TypeScript differ about ${String(one)}`,
      );
    });
    const refused = verdicts.filter((verdict) => verdict === 'refused').length;
    assert.ok(refused > 0 && refused < verdicts.length, `${refused} of ${verdicts.length} refused`);
  });

  it('agree about what random input found', async () => {
    const envelope = (data: string): Case => [
      'task',
      hex(
        Buffer.from(
          `\x01{"message_type":"task","data":{"task_id":"${TASK_ID}",${data}}}`,
          'latin1',
        ),
      ),
    ];
    const found: Case[] = [
      ['buffers', '00000000001\nx'],
      ['buffers', '0000000001\nx'],
      envelope('"task_buffer":"x","n":NaN'),
      envelope('"task_buffer":"x","n":-Infinity'),
      envelope('"task_buffer":"\xff"'),
      envelope('"task_buffer":"x","timestamp":12345678901234567.5'),
      ['frame', hex(Buffer.from('\0\0\0\x11\0\0\0\x0d{"type":"\xff\xfe"}', 'latin1'))],
    ];
    assert.deepEqual(await readInPython(found), found.map(read));
  });
});
