/** Results that are too large for a message, from end to end: hub and agent as commands, and the TypeScript SDK. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { Client, Executor, TaskExecutionError } from '../../src/sdk/index.ts';
import { Stack } from '../support/stack.ts';

const CHARS = 300_000;

describe('large results from end to end', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;

  before(async () => {
    stack = await Stack.start({
      hub: {
        OUTPOST_HUB_RESULT_INLINE_BYTES_MAX: '65536',
        OUTPOST_HUB_BLOBS_BYTES_MAX: String(2 * 1024 * 1024),
      },
      agent: { python: '/usr/bin/python3' },
    });
    const { id: clientId, secret: clientSecret } = stack.client;
    client = new Client({ hubUrl: stack.hubUrl, clientId, clientSecret });
  });
  after(async () => {
    await stack.stop();
  });

  it('reach the Executor and the Client as any other, with what the task printed', async () => {
    const executor = new Executor({ client, endpointId: stack.endpointId });
    try {
      const repeat = (chars: number): string => {
        process.stdout.write('repeating\n');
        return 'x'.repeat(chars);
      };
      const future = executor.submit(repeat, CHARS);
      assert.equal((await future).length, CHARS);
      const taskId = future.taskId ?? '';
      assert.equal(String(await client.getResult(taskId)).length, CHARS);
      const records = await client.getBatchResult([taskId]);
      const record = records.get(taskId);
      assert.ok(record !== undefined && !record.pending && record.status === 'success');
      assert.equal(String(record.result).length, CHARS);
      const { outpost } = await client.hub.task(taskId);
      assert.equal(outpost?.stdout, 'repeating\n');
      assert.ok((outpost.blob?.bytes ?? 0) > CHARS);
      const files = await readdir(join(stack.home, '.outpost', '.hub', 'blobs'), {
        recursive: true,
      });
      assert.equal(files.filter((name) => name.endsWith(taskId)).length, 1);
    } finally {
      await executor.shutdown();
    }
  });

  it('are a failure by name when the hub has no room for them', async () => {
    const large = await client.registerFunction((chars: number) => 'y'.repeat(chars), {
      name: 'large',
    });
    const taskId = await client.run(large, stack.endpointId, [3 * 1024 * 1024]);
    await assert.rejects(client.waitForResult(taskId), (error: unknown) => {
      assert.ok(error instanceof TaskExecutionError, String(error));
      assert.equal(error.code, 'RESULT_NOT_KEPT');
      assert.match(error.message, /2097152.*OUTPOST_HUB_BLOBS_BYTES_MAX/);
      return true;
    });
  });
});
