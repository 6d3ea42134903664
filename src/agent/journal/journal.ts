/**
 * Opens the task journal: replays what earlier runs left, takes over what other hosts left when told to, and starts the writer.
 *
 * The work at start is in proportion to what is on disk, which upkeep holds near to what is live; a clean stop without live tasks
 * leaves nothing but tombstones.
 */
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { errorCode } from '../../base/errors.ts';
import { detach } from '../../base/logger.ts';
import { taskKey } from '../../protocol/task-id.ts';
import { DiskReserve } from './disk-reserve.ts';
import { fileSystemNotices, fileSystemOf } from './file-system.ts';
import type { Journal, JournalOptions, JournalState, RecoveredTask } from './journal-types.ts';
import { JournalWriter } from './journal-writer.ts';
import { parseJson } from './live-task.ts';
import { replayHost, type HostReplay, type ReplayedTask } from './replay.ts';
import { readBegunTasks, RunningTable } from './running-table.ts';
import {
  createSegment,
  hostDirectory,
  listDirectory,
  makeDirectory,
  segmentName,
  type Segment,
} from './segment.ts';
import { TaskJournal } from './task-journal.ts';
import { loadTombstones, TombstoneFiles } from './tombstone-files.ts';
import { TombstoneTable } from './tombstone-table.ts';

export type { Journal, JournalOptions, ReceivedTask, RecoveredTask } from './journal-types.ts';

const MIB = 1024 * 1024;

/** Name of the table of running tasks in the directory of a host. */
const RUNNING_TABLE = 'running';

const RANK: Readonly<Record<JournalState, number>> = { received: 0, started: 1, done: 2 };

/** Opens the journal and says what it holds. The caller holds `agent.lock`, so there is one writer per host. */
export async function openJournal(
  options: JournalOptions,
): Promise<{ journal: Journal; recovered: RecoveredTask[]; notices: string[] }> {
  const { clock, logger, host, epoch } = options;
  const bytesMax = options.bytesMax ?? 2048 * MIB;
  const segmentBytesMax = Math.min(options.segmentBytesMax ?? 32 * MIB, Math.ceil(bytesMax / 4));
  const bounds = {
    countMax: options.tombstonesMax ?? 1_000_000,
    ttlMs: options.tombstoneTtlMs ?? 14 * 24 * 3600 * 1000,
  };
  const hostDir = hostDirectory(options.directory, host);
  await makeDirectory(hostDir);

  const tombstones = new TombstoneTable(bounds, clock);
  const loaded = await loadTombstones(hostDir, tombstones, bounds, clock);
  const own = await replayHost(hostDir, true);
  const others =
    options.includeHosts === 'all' ? await replayOthers(options.directory, hostDir) : [];
  const notices = [
    ...fileSystemNotices(await fileSystemOf(hostDir)),
    ...loaded.notices,
    ...own.notices,
  ];
  for (const other of others) {
    notices.push(...other.replay.notices);
    notices.push(...(await loadTombstones(other.directory, tombstones, bounds, clock)).notices);
  }
  const segments = own.segments;
  for (const segment of [...segments, ...others.flatMap((other) => other.replay.segments)]) {
    tombstones.add(segment.confirmedKeys.bytes());
  }

  const ownTable = join(hostDir, RUNNING_TABLE);
  const runningTable = options.runningTable ?? { path: ownTable, mode: 0o600 };
  if (runningTable.path !== ownTable) {
    // It would be believed when the tables change back.
    await rm(ownTable, { force: true });
  }
  const marked =
    options.trustRunningTable === false
      ? undefined
      : readBegunTasks(runningTable.path, options.bootId);
  const tasks = begunOrNot(own.live, marked);
  const taken: ReplayedTask[] = [];
  for (const task of others.flatMap((other) => [...other.replay.live.values()])) {
    if (isFurther(task, tasks.get(task.taskId), tombstones)) {
      tasks.set(task.taskId, task);
      taken.push(task);
    }
  }
  const begun = [...tasks.values()].filter((task) => task.state === 'started');
  const running = new RunningTable(
    runningTable,
    options.bootId,
    begun.map((task) => taskKey(task.taskId).toString('hex')),
    logger,
  );

  const epochDirectory = join(hostDir, String(epoch));
  const tombstoneFiles = new TombstoneFiles(hostDir, { host, epoch }, bounds, clock, loaded);
  let nextNumber = own.nextNumber;
  const newSegment = async (): Promise<Segment> => {
    const number = nextNumber;
    // Before the attempt: a file that was half made keeps its number.
    nextNumber += 1;
    const path = join(epochDirectory, segmentName(number, 'seg'));
    const segment = await createSegment(path, { number, epoch, host, createdAtMs: clock.now() });
    segments.push(segment);
    return segment;
  };
  const reserveBytes = options.reserveBytes ?? Math.min(8 * MIB, Math.ceil(segmentBytesMax / 4));
  const makeWriter = (made: TaskJournal): JournalWriter =>
    new JournalWriter({
      directory: options.directory,
      segmentBytesMax,
      reserve: new DiskReserve(join(hostDir, 'reserve'), reserveBytes),
      clock,
      logger,
      createSegment: newSegment,
      piggyback: () => made.takeConfirmed(),
      onBatch: () => {
        made.afterBatch();
      },
      onFullChange: () => {
        made.announceFull();
      },
    });
  const journal = new TaskJournal(
    {
      directory: options.directory,
      epochDirectory,
      clock,
      logger,
      segmentBytesMax,
      bytesMax,
      bodyCacheBytesMax: options.bodyCacheBytesMax ?? 8 * MIB,
      tombstones,
      tombstoneFiles,
      running,
      segments,
    },
    makeWriter,
  );

  const cells = new Map(begun.map((task, cell) => [task, cell]));
  for (const task of tasks.values()) {
    const cell = cells.get(task);
    journal.adopt({ ...task, ...(cell !== undefined && { cell }) });
  }
  journal.start();
  if (others.length > 0) {
    const copied = copyForeign(
      journal,
      taken.filter((task) => tasks.get(task.taskId) === task),
      others,
      tombstoneFiles,
    );
    detach(logger, 'taking over the journals of other hosts', copied);
    // A full disk must not keep the agent from starting; what was taken over is then copied as soon as there is room.
    await journal.settledOrFull(copied);
  }
  return { journal, recovered: [...tasks.values()].map(recoveredTask), notices };
}

/** A task that was started and is not among those that had begun waits again, as if it had not been started. */
function begunOrNot(
  replayed: ReadonlyMap<string, ReplayedTask>,
  begun: ReadonlySet<string> | undefined,
): Map<string, ReplayedTask> {
  const tasks = new Map(replayed);
  for (const task of replayed.values()) {
    if (task.state === 'started' && begun?.has(taskKey(task.taskId).toString('hex')) === false) {
      tasks.set(task.taskId, { ...task, state: 'received', attempts: task.attempts - 1 });
    }
  }
  return tasks;
}

/** Whether another host's record of a task says more than what is known of it. */
function isFurther(
  task: ReplayedTask,
  known: ReplayedTask | undefined,
  tombstones: TombstoneTable,
): boolean {
  if (tombstones.has(taskKey(task.taskId))) {
    return false;
  }
  return known === undefined || RANK[task.state] > RANK[known.state];
}

function recoveredTask(task: ReplayedTask): RecoveredTask {
  return {
    taskId: task.taskId,
    state: task.state,
    attempts: task.attempts,
    meta: parseJson(task.meta),
  };
}

interface OtherHost {
  readonly directory: string;
  readonly replay: HostReplay;
}

async function replayOthers(journalDirectory: string, ownDir: string): Promise<OtherHost[]> {
  const others: OtherHost[] = [];
  for (const name of await listDirectory(journalDirectory)) {
    const directory = join(journalDirectory, name);
    if (directory !== ownDir) {
      others.push({ directory, replay: await replayHost(directory, false) });
    }
  }
  return others;
}

/**
 * Copies the live tasks of other hosts into this journal and renames their segments, so that they are not taken over again.
 *
 * Renamed, not deleted: a fenced agent that still runs goes on writing to the file it has open. Its own host deletes them later.
 */
async function copyForeign(
  journal: TaskJournal,
  taken: readonly ReplayedTask[],
  others: readonly OtherHost[],
  tombstoneFiles: TombstoneFiles,
): Promise<void> {
  await journal.carry(taken.map((task) => task.taskId));
  for (const segment of others.flatMap((other) => other.replay.segments)) {
    await tombstoneFiles.append(segment.confirmedKeys.bytes());
    await markAdopted(segment.path);
    await segment.close();
  }
}

async function markAdopted(path: string): Promise<void> {
  try {
    await rename(path, `${path}.adopted`);
  } catch (error) {
    // Its own agent has dropped it meanwhile.
    if (errorCode(error) !== 'ENOENT') {
      throw error;
    }
  }
}
