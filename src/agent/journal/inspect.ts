/**
 * Looks into a journal from outside: for `agent journal`, also while its agent runs.
 *
 * Only reads. What the writer is about to append looks torn, which is told and is no damage; a segment that is dropped while we read
 * makes us read again. Whatever lies there is reported, never thrown.
 */
import { readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { errorCode, errorText } from '../../base/errors.ts';
import { taskKey } from '../../protocol/task-id.ts';
import { fileSystemNotices, fileSystemOf } from './file-system.ts';
import type { JournalState } from './journal-types.ts';
import { parseJson } from './live-task.ts';
import { scanRecords } from './record.ts';
import { replayHost } from './replay.ts';
import type { HostReplay, ReplayedTask } from './replay.ts';
import { readBegunTasks } from './running-table.ts';
import { decodeHeader, hostDirectory, listDirectory } from './segment.ts';

/** Readings after which segments that keep vanishing are left out. */
const READINGS_MAX = 5;
const RUNNING_TABLE = 'running';

/** A task that is live in a journal. */
export interface InspectedTask {
  readonly task_id: string;
  readonly host: string;
  /** `received`: waits; `started`: may run, or ran when the agent ended; `done`: its result is not confirmed yet. */
  readonly state: JournalState;
  /** Whether a started task has begun; null where that cannot be told. */
  readonly begun: boolean | null;
  readonly attempts: number;
  /** Size of its record: the task, or its result. */
  readonly bytes: number;
  readonly function_id: string | null;
  readonly language: string | null;
  readonly segment: string;
}

/** A file of a journal. */
export interface InspectedFile {
  readonly file: string;
  readonly bytes: number;
}

/** What one host has left in a journal. */
export interface InspectedHost {
  /** Directory of the host. */
  readonly host: string;
  /** Whether it is this machine. */
  readonly is_own: boolean;
  readonly tasks: Readonly<Record<JournalState, number>>;
  /** Ids of confirmed tasks. */
  readonly tombstones: number;
  readonly bytes: number;
  readonly segments: readonly (InspectedFile & { readonly epoch: number; readonly live: number })[];
  /** Damaged segments that were kept for whoever wants to look at them. */
  readonly kept_aside: readonly InspectedFile[];
}

/** What a journal holds. */
export interface InspectedJournal {
  readonly directory: string;
  readonly bytes: number;
  readonly free_bytes: number | null;
  /** Name of the network file system that it lies on, if it does. */
  readonly network_file_system: string | null;
  readonly hosts: readonly InspectedHost[];
  readonly tasks: readonly InspectedTask[];
  /** What is wrong with it, in words. */
  readonly notices: readonly string[];
}

/** Reads what a journal holds. `host` and `bootId` are those of this machine. */
export async function inspectJournal(
  directory: string,
  host: string,
  bootId: string,
): Promise<InspectedJournal> {
  const notices: string[] = [];
  const hosts: InspectedHost[] = [];
  const tasks: InspectedTask[] = [];
  for (const name of await listDirectory(directory)) {
    const path = join(directory, name);
    if ((await sizeOf(path)) === undefined) {
      const isOwn = path === hostDirectory(directory, host);
      try {
        await inspectHost(path, isOwn, isOwn ? bootId : undefined, { hosts, tasks, notices });
      } catch (error) {
        notices.push(`${path}: ${errorText(error)}`);
      }
    }
  }
  const fileSystem = await fileSystemOf(directory).catch((error: unknown) => {
    if (errorCode(error) !== 'ENOENT') {
      notices.push(`${directory}: ${errorText(error)}`);
    }
  });
  return {
    directory,
    bytes: hosts.reduce((sum, { bytes }) => sum + bytes, 0),
    free_bytes: fileSystem?.freeBytes ?? null,
    network_file_system: fileSystem?.network ?? null,
    hosts,
    tasks,
    notices: [...notices, ...(fileSystem === undefined ? [] : fileSystemNotices(fileSystem))],
  };
}

async function inspectHost(
  hostDir: string,
  isOwn: boolean,
  bootId: string | undefined,
  into: { hosts: InspectedHost[]; tasks: InspectedTask[]; notices: string[] },
): Promise<void> {
  const { notices } = into;
  const host = basename(hostDir);
  const replay = await replayWhole(hostDir, notices);
  notices.push(...replay.notices);
  const files = await filesUnder(hostDir);
  const begun = bootId === undefined ? undefined : begunTasks(hostDir, bootId, notices);
  const counts: Record<JournalState, number> = { received: 0, started: 0, done: 0 };
  const liveIn = new Map<string, number>();
  for (const task of replay.live.values()) {
    counts[task.state] += 1;
    const { path } = task.location.segment;
    liveIn.set(path, (liveIn.get(path) ?? 0) + 1);
    into.tasks.push(describeTask(task, host, begun));
  }
  into.hosts.push({
    host,
    is_own: isOwn,
    tasks: counts,
    tombstones:
      replay.segments.reduce((sum, segment) => sum + segment.confirmedKeys.count, 0) +
      (await countTombstones(hostDir, notices)),
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    segments: replay.segments.map(({ path, size, header }) => ({
      file: path,
      bytes: size,
      epoch: header.epoch,
      live: liveIn.get(path) ?? 0,
    })),
    kept_aside: files.filter(({ file }) => file.endsWith('.corrupt')),
  });
}

/** Replays a host whose agent may be dropping segments meanwhile: what lived in them then stands in a newer one. */
async function replayWhole(hostDir: string, notices: string[]): Promise<HostReplay> {
  const nothing: HostReplay = { segments: [], live: new Map(), notices: [], nextNumber: 1 };
  try {
    for (let reading = 1; ; reading += 1) {
      const replay = await replayHost(hostDir, false);
      const sizes = await Promise.all(replay.segments.map(async ({ path }) => await sizeOf(path)));
      if (!sizes.includes(undefined) || reading === READINGS_MAX) {
        return replay;
      }
    }
  } catch (error) {
    // A journal of a newer format, or a file that may not be read.
    notices.push(`${hostDir}: ${errorText(error)}`);
    return nothing;
  }
}

function begunTasks(
  hostDir: string,
  bootId: string,
  notices: string[],
): ReadonlySet<string> | undefined {
  try {
    return readBegunTasks(join(hostDir, RUNNING_TABLE), bootId);
  } catch (error) {
    notices.push(`${join(hostDir, RUNNING_TABLE)}: ${errorText(error)}`);
    return undefined;
  }
}

function describeTask(
  { taskId, state, attempts, meta, location }: ReplayedTask,
  host: string,
  begun: ReadonlySet<string> | undefined,
): InspectedTask {
  const { functionId, language } = metaOf(meta);
  return {
    task_id: taskId,
    host,
    state,
    begun:
      state === 'started' && begun !== undefined
        ? begun.has(taskKey(taskId).toString('hex'))
        : null,
    attempts,
    bytes: location.length,
    function_id: typeof functionId === 'string' && functionId !== '' ? functionId : null,
    language: typeof language === 'string' ? language : null,
    segment: location.segment.path,
  };
}

function metaOf(meta: string): Readonly<Record<string, unknown>> {
  try {
    return parseJson(meta);
  } catch {
    // A whole record, written by something else: what it says of its task stands in the other fields.
    return {};
  }
}

async function countTombstones(hostDir: string, notices: string[]): Promise<number> {
  let count = 0;
  for (const name of (await listDirectory(hostDir)).filter((one) => one.endsWith('.tomb'))) {
    const path = join(hostDir, name);
    try {
      const bytes = await readFile(path);
      const decoded = decodeHeader(bytes, path);
      if (decoded === undefined) {
        notices.push(`${path}: is no file of tombstones, or its header is damaged`);
        continue;
      }
      scanRecords(bytes, decoded.headerBytes, decoded.header.salt, (record) => {
        count += record.type === 'tombstones' ? record.keys.length / 16 : 0;
      });
    } catch (error) {
      if (errorCode(error) !== 'ENOENT') {
        notices.push(`${path}: ${errorText(error)}`);
      }
    }
  }
  return count;
}

async function filesUnder(directory: string): Promise<InspectedFile[]> {
  const files: InspectedFile[] = [];
  for (const name of await listDirectory(directory)) {
    const file = join(directory, name);
    const bytes = await sizeOf(file);
    files.push(...(bytes === undefined ? await filesUnder(file) : [{ file, bytes }]));
  }
  return files;
}

/** Size of a file; undefined for a directory, and for what is not there any more. */
async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const found = await stat(path);
    return found.isDirectory() ? undefined : found.size;
  } catch {
    return undefined;
  }
}
