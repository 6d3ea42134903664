import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { packageRoot } from '../../../src/base/package-root.ts';
import {
  packEpStatusReport,
  packResult,
  packTask,
  peekCodeId,
  unpackEpStatusReport,
  unpackResult,
  unpackTask,
} from '../../../src/protocol/messages.ts';
import type { EpStatusReport, Result, Task } from '../../../src/protocol/messages.ts';
import type { TaskTransition } from '../../../src/protocol/task-state.ts';

interface GoldenMessage {
  readonly name: string;
  readonly type: 'task' | 'result' | 'ep_status_report';
  /** Timestamps stand as text: they exceed 2^53. */
  readonly data: Record<string, unknown>;
  readonly hex: string;
}

const golden = JSON.parse(
  readFileSync(join(packageRoot(), 'test/golden/messages.json'), 'utf8'),
) as GoldenMessage[];

function transitions(list: unknown): TaskTransition[] | null {
  return list === null || list === undefined
    ? null
    : (list as { timestamp: string; state: string; actor: string }[]).map(
        (item) => ({ ...item, timestamp: BigInt(item.timestamp) }) as TaskTransition,
      );
}

function pack({ type, data }: GoldenMessage): Buffer {
  switch (type) {
    case 'task':
      return packTask(data as unknown as Task);
    case 'result':
      return packResult({ ...data, task_statuses: transitions(data['task_statuses']) } as Result);
    case 'ep_status_report': {
      const statuses = Object.entries(data['task_statuses'] as Record<string, unknown>).map(
        ([taskId, list]) => [taskId, transitions(list)] as const,
      );
      return packEpStatusReport({
        ...data,
        task_statuses: Object.fromEntries(statuses),
      } as unknown as EpStatusReport);
    }
  }
}

/** Python writes the float 30.0 with its fraction; JSON numbers have no type, and JavaScript writes 30. */
function withoutFloatFraction(hex: string): string {
  return hex.replace(Buffer.from(':30.0}').toString('hex'), Buffer.from(':30}').toString('hex'));
}

describe('messages', () => {
  for (const vector of golden) {
    it(`packs the golden ${vector.name} byte for byte`, () => {
      assert.equal(pack(vector).toString('hex'), withoutFloatFraction(vector.hex));
    });

    it(`unpacks the golden ${vector.name} and packs it again unchanged`, () => {
      const bytes = Buffer.from(vector.hex, 'hex');
      const again =
        vector.type === 'task'
          ? packTask(unpackTask(bytes))
          : vector.type === 'result'
            ? packResult(unpackResult(bytes))
            : packEpStatusReport(unpackEpStatusReport(bytes));
      assert.equal(again.toString('hex'), withoutFloatFraction(vector.hex));
    });
  }

  const taskId = '11111111-2222-4333-8444-555555555555';

  it('accepts white space, unknown keys and UUIDs without hyphens', () => {
    const body = Buffer.from(
      `\x01{ "message_type" : "task", "data": {"task_id": "${taskId.replaceAll('-', '').toUpperCase()}", "task_buffer": "x", "more": 1}}`,
    );
    assert.deepEqual(unpackTask(body), { task_id: taskId, task_buffer: 'x' });
  });

  for (const [what, body] of [
    ['an empty body', ''],
    ['another protocol version', '\x02{}'],
    ['what is no JSON', '\x01{"message_type":'],
    ['another message type', '\x01{"message_type":"task_cancel","data":{}}'],
    ['a task without a buffer', `\x01{"message_type":"task","data":{"task_id":"${taskId}"}}`],
    [
      'a task whose id is no UUID',
      '\x01{"message_type":"task","data":{"task_id":"7","task_buffer":""}}',
    ],
  ] as const) {
    it(`refuses ${what} with a protocol error`, () => {
      assert.throws(() => unpackTask(Buffer.from(body)), { name: 'ProtocolError' });
    });
  }

  it('keeps all digits of nanosecond timestamps, and leaves the same words in user data alone', () => {
    const result: Result = {
      task_id: taskId,
      data: '11\n"\\"timestamp\\": 1700000000000000001"',
      details: null,
      error_details: null,
      task_statuses: [{ timestamp: 1700000000000000001n, state: 'running', actor: 'worker' }],
    };
    assert.deepEqual(unpackResult(packResult(result)), result);
  });

  it('keeps the timestamp 2^53 of a heartbeat, from which on doubles have gaps', () => {
    const report: EpStatusReport = {
      endpoint_id: taskId,
      global_state: {},
      task_statuses: {
        [taskId]: [{ timestamp: 9007199254740992n, state: 'running', actor: 'worker' }],
      },
    };
    assert.deepEqual(unpackEpStatusReport(packEpStatusReport(report)), report);
  });

  it('reads the code identifier of a task without parsing it, and with other spacing by parsing it', () => {
    const usual = packTask({
      task_id: taskId,
      task_buffer: '41\nst\nadd:def add(x, y=1):\n    return x + y\n6\n11\n[3]',
    });
    assert.equal(peekCodeId(usual), 'st');
    const unusual = Buffer.from(
      `\x01{"message_type": "task", "data": {"task_buffer": "5\\njs\\nab", "task_id": "${taskId}"}}`,
    );
    assert.equal(peekCodeId(unusual), 'js');
    assert.throws(() => peekCodeId(Buffer.from('nonsense')), { code: 'ENVELOPE_INVALID' });
    assert.throws(() => peekCodeId(packTask({ task_id: taskId, task_buffer: '3\nab' })), {
      code: 'BUFFER_INVALID',
    });
  });
});
