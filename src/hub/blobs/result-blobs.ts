/**
 * Results that are too large for a message: taken from the endpoints' agents, kept until their tasks expire, given to their owners.
 *
 *   PUT by the agent ─▶ row (reserves the space) ─▶ file, hashed ─▶ store ─▶ row says stored ─▶ the agent publishes a reference
 *
 * B1 What is kept is bounded, reserved space included; a result that has no room is refused by name before its body is read.
 * B2 A blob is its task's: only the owner of the endpoint that has the task may bring it, before the task has ended, and only the
 *    owner of the task gets it. The key has the checksum of the content and the task, so that no two tasks share a blob.
 * B3 A blob goes when its task does, or when the task ended without referring to it. The row is deleted after the blob.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import { errorCode } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { removeIfThere } from '../../base/remove-file.ts';
import type { BlobReference } from '../../protocol/rest.ts';
import type { HubDatabase } from '../db/schema.ts';
import { HubError } from '../hub-error.ts';
import type { BlobStore, IncomingBlob } from './blob-store.ts';

/** Settings of {@link ResultBlobs}. */
export interface ResultBlobOptions {
  readonly db: Kysely<HubDatabase>;
  readonly store: BlobStore;
  /** Where bodies lie while they come in. */
  readonly incomingDir: string;
  /** Largest result that travels as a message. */
  readonly inlineBytesMax: number;
  /** Largest blob. */
  readonly resultBytesMax: number;
  /** Most that all blobs may take. */
  readonly totalBytesMax: number;
  readonly logger: Logger;
}

/** A result as it is given to its owner: the JSON of its message. */
export interface StoredResult {
  readonly content: Readable | Buffer;
  readonly bytes: number;
}

/** An upload takes no longer than a request may; what is older was left behind. */
const LEFT_BEHIND_MS = 3600_000;
/** Key of the advisory lock under which space is reserved. */
const RESERVE_LOCK = 0x0b10b5;
const PURGE_BATCH = 500;
/** A message begins with its version, which is no JSON. */
const VERSION_BYTES = 1;

/** Keeps large results. */
export class ResultBlobs {
  readonly #options: ResultBlobOptions;
  readonly #db: Kysely<HubDatabase>;

  constructor(options: ResultBlobOptions) {
    this.#options = options;
    this.#db = options.db;
  }

  /** Largest result that travels as a message. */
  get inlineBytesMax(): number {
    return this.#options.inlineBytesMax;
  }

  /** Makes the directory for what comes in. */
  async start(): Promise<void> {
    await mkdir(this.#options.incomingDir, { recursive: true, mode: 0o700 });
  }

  /**
   * Takes the result of a task from whoever runs its endpoint.
   *
   * @throws HubError 404 when the task is not theirs, 409 when it has ended, 411, 413, 507 RESULT_STORE_FULL; UnavailableError.
   */
  async keep(
    callerId: string,
    taskId: string,
    bytes: number | undefined,
    body: Readable,
  ): Promise<BlobReference> {
    await this.#requireOpenTask(callerId, taskId);
    await this.#reserve(taskId, this.#checkedSize(bytes));
    try {
      const blob = await this.#receive(taskId, body, bytes ?? 0);
      try {
        await this.#store(taskId, blob);
      } finally {
        await removeIfThere(blob.path);
      }
      return { sha256: blob.sha256, bytes: blob.bytes };
    } catch (error) {
      await this.#db
        .deleteFrom('result_blobs')
        .where('task_id', '=', taskId)
        .where('stored_at', 'is', null)
        .where('key', 'is', null)
        .execute();
      throw error;
    }
  }

  /** The result of a finished task, large or not; undefined when there is none, or the task is somebody else's. */
  async open(ownerId: string, taskId: string): Promise<StoredResult | undefined> {
    const row = await this.#db
      .selectFrom('tasks')
      .leftJoin('result_blobs', 'result_blobs.task_id', 'tasks.id')
      .select(['tasks.result', 'tasks.output', 'result_blobs.key', 'result_blobs.bytes'])
      .where('tasks.id', '=', taskId)
      .where('tasks.owner_id', '=', ownerId)
      .where('tasks.completed_at', 'is not', null)
      .executeTakeFirst();
    if (row === undefined || row.result === null) {
      return undefined;
    }
    if (row.output === null || !('blob' in row.output)) {
      const content = row.result.subarray(VERSION_BYTES);
      return { content, bytes: content.length };
    }
    const content = row.key === null ? undefined : await this.#options.store.open(row.key);
    return content === undefined ? undefined : { content, bytes: Number(row.bytes) };
  }

  /** Deletes the blobs that no task needs, and what uploads have left behind. Returns how many blobs. */
  async purge(now: number): Promise<number> {
    await this.#purgeIncoming(now);
    const before = new Date(now - LEFT_BEHIND_MS);
    let count = 0;
    for (;;) {
      const { rows } = await sql<{ task_id: string; key: string | null }>`
        select b.task_id, b.key from result_blobs b left join tasks t on t.id = b.task_id
        where (b.stored_at is null and b.created_at < ${before}) or t.id is null
          or (t.completed_at is not null and not t.provisional and (t.output -> 'blob') is null)
        limit ${PURGE_BATCH}`.execute(this.#db);
      for (const { task_id: taskId, key } of rows) {
        if (key !== null) {
          await this.#options.store.delete(key);
        }
        await this.#db.deleteFrom('result_blobs').where('task_id', '=', taskId).execute();
        count += 1;
      }
      if (rows.length < PURGE_BATCH) {
        return count;
      }
    }
  }

  async #requireOpenTask(callerId: string, taskId: string): Promise<void> {
    const task = await this.#db
      .selectFrom('tasks')
      .innerJoin('endpoints', 'endpoints.id', 'tasks.endpoint_id')
      .select(['tasks.completed_at', 'tasks.provisional'])
      .where('tasks.id', '=', taskId)
      .where('endpoints.owner_id', '=', callerId)
      .executeTakeFirst();
    if (task === undefined) {
      throw new HubError(404, 'TASK_NOT_FOUND', `Task ${taskId} could not be found`);
    }
    if (task.completed_at !== null && !task.provisional) {
      throw new HubError(409, 'RESOURCE_CONFLICT', `Task ${taskId} has ended already`);
    }
  }

  #checkedSize(bytes: number | undefined): number {
    const { resultBytesMax } = this.#options;
    if (bytes === undefined || !Number.isSafeInteger(bytes)) {
      throw new HubError(411, 'REQUEST_MALFORMED', 'a result is sent with its Content-Length');
    }
    if (bytes > resultBytesMax) {
      throw new HubError(
        413,
        'RESULT_TOO_LARGE',
        `the result has ${bytes} bytes, more than the ${resultBytesMax} that the hub keeps (OUTPOST_HUB_RESULT_BYTES_MAX); return less, or a reference`,
      );
    }
    return bytes;
  }

  async #reserve(taskId: string, bytes: number): Promise<void> {
    const { totalBytesMax } = this.#options;
    const former = await this.#db.transaction().execute(async (transaction) => {
      await sql`select pg_advisory_xact_lock(${RESERVE_LOCK})`.execute(transaction);
      const { rows } = await sql<{ total: string; key: string | null }>`
        select coalesce(sum(bytes) filter (where task_id <> ${taskId}::uuid), 0)::text as total,
          max(key) filter (where task_id = ${taskId}::uuid) as key
        from result_blobs`.execute(transaction);
      if (Number(rows[0]?.total ?? 0) + bytes > totalBytesMax) {
        throw storeFull(`it holds ${totalBytesMax} bytes at most (OUTPOST_HUB_BLOBS_BYTES_MAX)`);
      }
      await sql`
        insert into result_blobs (task_id, bytes) values (${taskId}::uuid, ${bytes})
        on conflict (task_id) do update set bytes = excluded.bytes, key = null, sha256 = null,
          created_at = now(), stored_at = null`.execute(transaction);
      return rows[0]?.key ?? undefined;
    });
    if (former !== undefined) {
      // Of an upload whose agent never said that it is the result.
      await this.#options.store.delete(former);
    }
  }

  /** Writes the body to a file and syncs it. */
  async #receive(taskId: string, body: Readable, declared: number): Promise<IncomingBlob> {
    const path = join(this.#options.incomingDir, randomUUID());
    const hash = createHash('sha256');
    let bytes = 0;
    try {
      await pipeline(
        body,
        async function* measure(chunks: AsyncIterable<Buffer>) {
          for await (const chunk of chunks) {
            hash.update(chunk);
            bytes += chunk.length;
            yield chunk;
          }
        },
        createWriteStream(path, { flags: 'wx', mode: 0o600 }),
      );
      if (bytes !== declared) {
        throw new HubError(
          400,
          'REQUEST_MALFORMED',
          'the body is not as long as its Content-Length',
        );
      }
      await sync(path);
    } catch (error) {
      await removeIfThere(path);
      if (['ENOSPC', 'EDQUOT'].includes(errorCode(error) ?? '')) {
        this.#options.logger.error({ err: error, path }, 'no space for a result');
        throw storeFull('its disk is full');
      }
      throw error;
    }
    const sha256 = hash.digest('hex');
    return { key: `${sha256}.${taskId}`, path, bytes, sha256 };
  }

  /** The row has the key first: should we end in between, the blob is found and deleted. */
  async #store(taskId: string, blob: IncomingBlob): Promise<void> {
    const row = this.#db.updateTable('result_blobs').where('task_id', '=', taskId);
    await row.set({ key: blob.key, sha256: blob.sha256 }).execute();
    await this.#options.store.put(blob);
    await row.set({ stored_at: sql<Date>`now()` }).execute();
  }

  async #purgeIncoming(now: number): Promise<void> {
    const { incomingDir } = this.#options;
    for (const name of await readdir(incomingDir)) {
      const path = join(incomingDir, name);
      const info = await stat(path).catch(() => undefined);
      if (info !== undefined && info.mtimeMs < now - LEFT_BEHIND_MS) {
        await removeIfThere(path);
      }
    }
  }
}

function storeFull(reason: string): HubError {
  return new HubError(
    507,
    'RESULT_STORE_FULL',
    `the hub has no room for this result: ${reason}; return less, or a reference, or ask the operator of the hub`,
  );
}

async function sync(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
