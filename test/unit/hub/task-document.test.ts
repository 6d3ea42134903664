/** What the database may hold, and what the API shows of it. */
import assert from 'node:assert/strict';

import { jsonbText } from '../../../src/hub/tasks/jsonb.ts';
import { taskDocument } from '../../../src/hub/tasks/task-document.ts';
import { taskOutputText } from '../../../src/hub/tasks/task-output.ts';
import { packResult } from '../../../src/protocol/messages.ts';

const ID = '11111111-2222-4333-8444-555555555555';

describe('task documents', () => {
  it('have no result and no exception before the end', () => {
    const row = {
      state: 'running',
      completed_at: null,
      result: null,
      output: null,
      provisional: false,
    } as const;
    assert.deepEqual(taskDocument(ID, row), { task_id: ID, status: 'running' });
  });

  it('give details only when the endpoint gave some', () => {
    const result = packResult({
      task_id: ID,
      data: '11\n1',
      details: null,
      error_details: null,
      task_statuses: [{ timestamp: 1n, state: 'execution-start', actor: 'worker' }],
    });
    const document = taskDocument(ID, {
      state: 'success',
      completed_at: new Date(1_500),
      result,
      output: null,
      provisional: false,
    });
    assert.deepEqual(document, {
      task_id: ID,
      status: 'success',
      result: '11\n1',
      completion_t: '1.5',
    });
  });
});

describe('text for jsonb', () => {
  it('replaces NUL characters and lone surrogates, and nothing else', () => {
    const value = { '\0k': ['a\0b', '\\u0000', '\\\0', '\ud800x', '\udfff', '😀', '\u2028\n"'] };
    assert.deepEqual(JSON.parse(jsonbText(value)), {
      '\uFFFDk': ['a\uFFFDb', '\\u0000', '\\\uFFFD', '\uFFFDx', '\uFFFD', '😀', '\u2028\n"'],
    });
  });
});

describe('captured output', () => {
  it('is left out when it is not as expected', () => {
    for (const text of [
      undefined,
      7,
      '',
      '[',
      'null',
      '[]',
      '{"stdout":1}',
      `"${'x'.repeat(1e6)}"`,
    ]) {
      assert.equal(taskOutputText({ outpost_output: text }), null);
    }
  });

  it('keeps what it knows', () => {
    const text = taskOutputText({ outpost_output: '{"stdout":"a","stderr":2,"truncated":false}' });
    assert.equal(text, '{"stdout":"a","truncated":false}');
  });
});
