/**
 * Replay: reads what a host has left in its journal and says which tasks are still live, and how far they came.
 *
 * Segments are dropped oldest first only, so what is on disk is always the end of a host's history, and reading it in order
 * gives the state. A torn tail (a crash in the middle of a write) is cut off; a segment with other damage is kept aside as
 * `.corrupt`, its good records count, and everything is reported. Nothing that lies on the disk makes this throw, except a
 * journal of a newer format. The files of another host are only read: its agent may still be finishing what it runs.
 */
import { constants } from 'node:fs';
import { copyFile, link, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';

import { errorCode } from '../../base/errors.ts';
import { taskKey } from '../../protocol/task-id.ts';
import type { JournalState } from './journal-types.ts';
import { scanRecords, type JournalRecord } from './record.ts';
import { decodeHeader, listDirectory, Segment, type RecordLocation } from './segment.ts';
import { removeFile } from './tombstone-files.ts';

const SEGMENT_NAME = /^(\d{8,})\.seg$/;
const EPOCH_NAME = /^\d+$/;

/** A task that is live at the end of a replay. */
export interface ReplayedTask {
  readonly taskId: string;
  readonly state: JournalState;
  readonly attempts: number;
  /** JSON. */
  readonly meta: string;
  /** RECEIVED, or DONE once there is a result. */
  readonly location: RecordLocation;
}

/** What the journal of one host holds. */
export interface HostReplay {
  /** Oldest first. */
  readonly segments: Segment[];
  readonly live: Map<string, ReplayedTask>;
  readonly notices: string[];
  /** One more than the largest number in use, also by files that are not read. */
  readonly nextNumber: number;
}

/** Replays all epochs of the host whose directory is given. `own`: damaged files may be cut and moved aside. */
export async function replayHost(hostDir: string, own: boolean): Promise<HostReplay> {
  const files = await listSegments(hostDir);
  const replay: HostReplay = {
    segments: [],
    live: new Map(),
    notices: [],
    nextNumber: (files.at(-1)?.number ?? 0) + 1,
  };
  for (const file of files) {
    if (own && file.isAdopted) {
      // Its live tasks were taken over by another host's agent, which holds them now.
      await removeFile(file.path);
    } else if (!file.isAdopted) {
      await replaySegment(file.path, own, file === files.at(-1), replay);
    }
  }
  return replay;
}

async function listSegments(
  hostDir: string,
): Promise<{ path: string; number: number; isAdopted: boolean }[]> {
  const files: { path: string; number: number; isAdopted: boolean }[] = [];
  for (const epoch of (await listDirectory(hostDir)).filter((name) => EPOCH_NAME.test(name))) {
    for (const name of await listDirectory(join(hostDir, epoch))) {
      const isAdopted = name.endsWith('.adopted');
      const match = SEGMENT_NAME.exec(isAdopted ? name.slice(0, -'.adopted'.length) : name);
      if (match !== null) {
        files.push({ path: join(hostDir, epoch, name), number: Number(match[1]), isAdopted });
      }
    }
  }
  return files.sort((left, right) =>
    left.number === right.number ? left.path.localeCompare(right.path) : left.number - right.number,
  );
}

async function replaySegment(
  path: string,
  own: boolean,
  isLast: boolean,
  replay: HostReplay,
): Promise<void> {
  const bytes = await readSegment(path);
  if (bytes === undefined) {
    return;
  }
  const decoded = decodeHeader(bytes, path);
  if (decoded === undefined) {
    await setAside(path, bytes.length, own, replay.notices);
    return;
  }
  const segment = new Segment(path, decoded.header, bytes.length);
  const damages = scanRecords(
    bytes,
    decoded.headerBytes,
    decoded.header.salt,
    (record, offset, length) => {
      applyRecord(record, { segment, offset, length }, replay);
    },
  );
  replay.segments.push(segment);
  const [first] = damages;
  if (first?.kind === 'torn' && isLast && !own) {
    segment.size = first.offset;
    replay.notices.push(
      `${path}: the last ${first.bytes} bytes are not written to their end, or not yet; nothing that was acknowledged is lost`,
    );
  } else if (first?.kind === 'torn' && isLast) {
    segment.size = first.offset;
    await truncate(path, first.offset);
    replay.notices.push(
      `${path}: the last ${first.bytes} bytes were not written to their end and were cut off; nothing that was acknowledged is lost`,
    );
  } else if (first !== undefined) {
    const lostBytes = damages.reduce((sum, damage) => sum + damage.bytes, 0);
    const copy = own ? await keepCopy(path) : '';
    replay.notices.push(
      `${path}: ${lostBytes} bytes from offset ${first.offset} on are damaged and were skipped${copy}; check the disk of this machine`,
    );
  }
}

/** The file's bytes; undefined when it has vanished, because the agent of another host drops its segments while we read. */
async function readSegment(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

/** A file without a valid header holds nothing that can be trusted. A short one is a crash while it was created. */
async function setAside(
  path: string,
  bytes: number,
  own: boolean,
  notices: string[],
): Promise<void> {
  const isShort = bytes < 64;
  const copy = own && !isShort ? await keepCopy(path) : '';
  if (own) {
    await removeFile(path);
  }
  notices.push(
    isShort
      ? `${path}: was created but never written${own ? '; removed' : ''}`
      : `${path}: is not a segment of a task journal or its header is damaged${copy}`,
  );
}

/** Keeps a damaged segment under another name (the same bytes on disk, where the file system has hard links). */
async function keepCopy(path: string): Promise<string> {
  const copy = `${path}.corrupt`;
  try {
    await link(path, copy);
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') {
      try {
        await copyFile(path, copy, constants.COPYFILE_EXCL);
      } catch (copyError) {
        return `, and could not be kept aside (${errorCode(copyError) ?? 'unknown error'})`;
      }
    }
  }
  return `, and kept as ${copy}`;
}

function applyRecord(record: JournalRecord, location: RecordLocation, replay: HostReplay): void {
  const { live } = replay;
  switch (record.type) {
    case 'received':
      live.set(record.taskId, {
        taskId: record.taskId,
        state: record.started ? 'started' : 'received',
        attempts: record.attempts,
        meta: record.meta.toString('utf8'),
        location,
      });
      break;
    case 'started': {
      // Without a RECEIVED the task ended later on: its first segment was dropped, which needs that.
      const task = live.get(record.taskId);
      if (task !== undefined && task.state !== 'done') {
        live.set(record.taskId, { ...task, state: 'started', attempts: record.attempts });
      }
      break;
    }
    case 'done':
      live.set(record.taskId, {
        taskId: record.taskId,
        state: 'done',
        attempts: record.attempts,
        meta: record.meta.toString('utf8'),
        location,
      });
      break;
    case 'confirmed':
      for (const taskId of record.taskIds) {
        live.delete(taskId);
        location.segment.confirmedKeys.push(taskKey(taskId));
      }
      break;
    case 'handedBack':
      for (const taskId of record.taskIds) {
        live.delete(taskId);
      }
      break;
    case 'tombstones':
      // Only tombstone files hold these.
      break;
  }
}
