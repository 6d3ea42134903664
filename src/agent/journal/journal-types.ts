/** What the task journal offers and says: the interface that the dispatcher works against. */
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';

/** A task as it came from its queue. */
export interface ReceivedTask {
  readonly taskId: string;
  /** JSON: function id, language, serializers and whatever else is needed to go on after a restart. */
  readonly meta: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
}

/** How far a task came. */
export type JournalState = 'received' | 'started' | 'done';

/** A task that an earlier run left unfinished or unpublished. */
export interface RecoveredTask {
  readonly taskId: string;
  readonly state: JournalState;
  /** How often it was started. */
  readonly attempts: number;
  readonly meta: Readonly<Record<string, unknown>>;
}

/** A result as it is published. */
export interface JournalResult {
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, unknown>>;
}

/** What the journal says about itself. */
export interface JournalStats {
  readonly liveCount: number;
  readonly bytes: number;
  readonly segments: number;
  readonly tombstones: number;
  /** No new task is taken: the disk or `bytesMax` is reached. */
  readonly full: boolean;
  /** Bytes that wait to be written, and batches that were: for the watchdog. */
  readonly pendingBytes?: number;
  readonly batches?: number;
  readonly lastError?: string;
}

/** The journal of one agent. */
export interface Journal {
  /** 'new': never seen; 'live': known and not confirmed; 'confirmed': tombstone (I3). */
  lookup: (taskId: string) => 'new' | 'live' | 'confirmed';
  /**
   * Durable when resolved; one record even when `started` is true (I5). Rejects with UnavailableError JOURNAL_FULL when there is no
   * room: the task is then unknown again, and its delivery must be requeued, not acked.
   */
  received: (task: ReceivedTask, started: boolean) => Promise<void>;
  /** The task may run from now on; it counts as one more attempt once it has begun. Dispatch after this is resolved (I5). */
  started: (taskId: string) => Promise<void>;
  /**
   * The cell that whoever begins the started task marks right before (protocol/running-cells.ts): after a crash, a started task whose
   * cell is not marked is queued again. Undefined when there is no table; such a task counts as begun.
   */
  cell: (taskId: string) => number | undefined;
  /** Whether a started task has begun, as far as its cell tells. Of use when nobody can begin it any more. */
  hasBegun: (taskId: string) => boolean;
  /** The file with the cells. */
  readonly runningTablePath: string;
  /**
   * Resolves when durable; publishing need not wait for it. While the disk is full it waits, in memory. Only the first result of
   * a task counts.
   */
  done: (taskId: string, result: JournalResult) => Promise<void>;
  /** The broker confirmed this result (I4). Written with a later batch; the id becomes a tombstone at once. */
  confirmed: (taskId: string) => void;
  /** The hub took these tasks back: forgotten without a tombstone, because they may come again. Call after the hub agreed. */
  handedBack: (taskIds: readonly string[]) => Promise<void>;
  /** The body of a task that has no result yet. */
  readTask: (taskId: string) => Promise<Buffer>;
  /** The result of a task that is done and not confirmed. */
  readResult: (taskId: string) => Promise<JournalResult>;
  readonly stats: JournalStats;
  /** Called when `stats.full` changes. */
  onFullChange: (listener: (full: boolean) => void) => void;
  /** Clears up what most of is dead, beyond what is done with every batch; returns the bytes that became free. For a quiet hour. */
  compact: () => Promise<number>;
  /** Writes what waits and ends. A journal without live tasks leaves only tombstones behind. */
  close: () => Promise<void>;
}

/** Settings of a journal. */
export interface JournalOptions {
  /** `<endpoint directory>/journal`. */
  readonly directory: string;
  /** Host name as in the lease. */
  readonly host: string;
  /** Boot id of this machine, to tell whether what an earlier run had written can be trusted to be there. */
  readonly bootId: string;
  /** Epoch of the lease; new segments go into a directory of that name. */
  readonly epoch: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** False when the worker host of the last run may still be alive and marking cells: every started task counts as begun then. */
  readonly trustRunningTable?: boolean;
  /** Where the table of running tasks lies when its place is no good: the worker host must be able to write it. */
  readonly runningTable?: { readonly path: string; readonly mode: number };
  /**
   * 'all' after the hub has granted the lease: also takes over what other hosts left in the same (shared) directory. Their holders
   * are fenced then, and what they still run may end twice, of which the hub keeps the first. Default 'own'.
   */
  readonly includeHosts?: 'own' | 'all';
  /** Size of a segment, in bytes. Default 32 MiB; at most a quarter of `bytesMax`. */
  readonly segmentBytesMax?: number;
  /** Bytes on disk from which on no new task is taken. Results go beyond it. Default 2 GiB. */
  readonly bytesMax?: number;
  /** Bodies of waiting tasks kept in memory, in bytes; others are read again. Default 8 MiB. */
  readonly bodyCacheBytesMax?: number;
  /** Bytes that are set aside on disk, to be given back when it is full. Default 8 MiB, at most a quarter of a segment. */
  readonly reserveBytes?: number;
  /** How long a confirmed id is remembered. Default 14 days, the time a task may live. */
  readonly tombstoneTtlMs?: number;
  /** How many confirmed ids are remembered; the oldest go first. Default 1,000,000. */
  readonly tombstonesMax?: number;
}
