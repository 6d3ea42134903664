/** Results that are too large for a message, at the hub: who may bring and fetch them, how much is kept, and when they go. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { sql } from 'kysely';

import { silentLogger } from '../../src/base/logger.ts';
import { createBlobs } from '../../src/hub/blobs/create-blobs.ts';
import type { BlobSettings } from '../../src/hub/blobs/create-blobs.ts';
import { packResult } from '../../src/protocol/messages.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import { startBucketServer } from '../support/bucket-server.ts';
import type { BucketServer } from '../support/bucket-server.ts';
import { TestHub, assertRefused, registerEndpoint, registerFunction } from './hub-api-support.ts';
import type { Answer, Person } from './hub-api-support.ts';

const TOTAL_BYTES = 1024 * 1024;
const RESULT_BYTES = 600 * 1024;
const KEY = { region: 'us-east-1', accessKeyId: 'outpost', secretAccessKey: 'a secret' };

for (const kind of ['directory', 'bucket'] as const) {
  describe(`large results in a ${kind}`, () => {
    let directory: string;
    let bucket: BucketServer | undefined;
    let settings: BlobSettings;
    let hub: TestHub;
    let runner: Person;
    let submitter: Person;
    let endpointId: string;
    let functionId: string;

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), 'outpost-blobs-'));
      bucket = kind === 'bucket' ? await startBucketServer(KEY) : undefined;
      settings = {
        directory,
        bucket: bucket && { ...KEY, url: `${bucket.url}/results/some` },
        inlineBytesMax: 64 * 1024,
        resultBytesMax: RESULT_BYTES,
        totalBytesMax: TOTAL_BYTES,
      };
      hub = await TestHub.start({ blobs: settings });
      runner = await hub.person();
      submitter = await hub.person();
      functionId = await registerFunction(submitter);
      const registered = await registerEndpoint(runner, { public: true });
      assert.deepEqual(registered.result_upload, { inline_bytes_max: 64 * 1024 });
      endpointId = registered.endpoint_id;
    });
    after(async () => {
      await hub.stop();
      await bucket?.stop();
      await rm(directory, { recursive: true });
    });
    afterEach(async () => {
      await hub.db.deleteFrom('tasks').execute();
      await purge();
    });

    async function task(): Promise<string> {
      const answer = await submitter.call('POST', `/v3/endpoints/${endpointId}/submit`, {
        tasks: { [functionId]: [packBuffers(['11\n[1]', '11\n{}'])] },
      });
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
      return String((answer.body['tasks'] as Record<string, string[]>)[functionId]?.[0]);
    }

    function messageOf(taskId: string, chars: number): Buffer {
      return packResult({
        task_id: taskId,
        data: `11\n"${'x'.repeat(chars)}"`,
        details: null,
        error_details: null,
        task_statuses: null,
      });
    }

    async function bring(person: Person, taskId: string, content: Buffer): Promise<Answer> {
      return await person.call('PUT', `/v1/tasks/${taskId}/result-blob`, content.toString(), {
        'content-type': 'application/octet-stream',
      });
    }

    /** What a published reference makes of a task. */
    async function end(taskId: string, blob?: unknown): Promise<void> {
      const result = packResult({
        task_id: taskId,
        data: 'too large',
        details: null,
        error_details: { code: 'MaxResultSizeExceeded', user_message: 'too large' },
        task_statuses: null,
      });
      const output = blob === undefined ? null : JSON.stringify({ blob });
      await sql`
        update tasks set completed_at = now(), state = 'failed', result = ${result}, output = ${output}::jsonb
        where id = ${taskId}::uuid`.execute(hub.db);
    }

    async function purge(): Promise<void> {
      const blobs = await createBlobs(settings, { db: hub.db, logger: silentLogger });
      await blobs.purge(Date.now());
    }

    async function keptCount(): Promise<number> {
      if (bucket !== undefined) {
        return bucket.objects.size;
      }
      const entries = await readdir(directory, { recursive: true, withFileTypes: true });
      return entries.filter((entry) => entry.isFile()).length;
    }

    it('are brought by whoever runs the endpoint and given to the owner of the task, and to nobody else', async () => {
      const taskId = await task();
      const content = messageOf(taskId, 300_000).subarray(1);
      assertRefused(await bring(submitter, taskId, content), 404, 'TASK_NOT_FOUND');
      assertRefused(await bring(runner, randomUUID(), content), 404, 'TASK_NOT_FOUND');
      const empty = await runner.call('PUT', `/v1/tasks/${taskId}/result-blob`);
      assertRefused(empty, 400, 'REQUEST_MALFORMED');
      const brought = await bring(runner, taskId, content);
      const reference = {
        sha256: createHash('sha256').update(content).digest('hex'),
        bytes: content.length,
      };
      assert.deepEqual(brought.body, reference);
      // The agent died before it could publish the reference: it brings the result again.
      assert.deepEqual((await bring(runner, taskId, content)).body, reference);
      assert.equal(await keptCount(), 1);
      const path = `/v1/tasks/${taskId}/result`;
      assertRefused(await submitter.call('GET', path), 404, 'TASK_NOT_FOUND');
      await end(taskId, reference);
      const document = await submitter.call('GET', `/v2/tasks/${taskId}`);
      assert.deepEqual((document.body['outpost'] as Record<string, unknown>)['blob'], reference);
      assertRefused(await runner.call('GET', path), 404, 'TASK_NOT_FOUND');
      const fetched = await submitter.call('GET', path);
      assert.equal(fetched.status, 200);
      assert.deepEqual(fetched.body, JSON.parse(content.toString()));
      assertRefused(await bring(runner, taskId, content), 409, 'RESOURCE_CONFLICT');
      await purge();
      assert.equal(await keptCount(), 1, 'a result that is referred to was deleted');
    });

    it('are refused by name when they are too large, or when there is no room', async () => {
      const first = await task();
      const second = await task();
      const tooLarge = messageOf(first, RESULT_BYTES + 1).subarray(1);
      const refused = await bring(runner, first, tooLarge);
      assertRefused(refused, 413, 'RESULT_TOO_LARGE', /614400.*OUTPOST_HUB_RESULT_BYTES_MAX/);
      const content = messageOf(first, RESULT_BYTES - 1000).subarray(1);
      assert.equal((await bring(runner, first, content)).status, 200);
      const full = await bring(runner, second, content);
      assertRefused(full, 507, 'RESULT_STORE_FULL', /1048576.*OUTPOST_HUB_BLOBS_BYTES_MAX/);
      assert.equal(await keptCount(), 1);
    });

    it('go with their task, and when the task ended without them', async () => {
      const expired = await task();
      const ended = await task();
      const open = await task();
      for (const taskId of [expired, ended, open]) {
        const content = messageOf(taskId, 100_000).subarray(1);
        assert.equal((await bring(runner, taskId, content)).status, 200);
      }
      await hub.db.deleteFrom('tasks').where('id', '=', expired).execute();
      // As when its endpoint was deleted before the reference came.
      await end(ended);
      await purge();
      assert.equal(await keptCount(), 1);
      const left = await hub.db.selectFrom('result_blobs').select('task_id').execute();
      assert.deepEqual(left, [{ task_id: open }]);
    });

    if (kind === 'bucket') {
      it('are tried again later when the bucket does not take them', async () => {
        const taskId = await task();
        const content = messageOf(taskId, 100_000).subarray(1);
        assert.ok(bucket !== undefined);
        bucket.refuse(true);
        const answer = await bring(runner, taskId, content);
        bucket.refuse(false);
        assertRefused(answer, 503, 'BLOB_STORE_UNREACHABLE');
        assert.equal(answer.headers.get('retry-after'), '1');
        assert.equal((await bring(runner, taskId, content)).status, 200);
      });
    }
  });
}
