/** The directory in which journal and logs lie: its file system, its room, and whether it keeps what is written. */
import { randomBytes } from 'node:crypto';
import { open, realpath, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';

import { thisProcess } from '../../../agent/agent-lock.ts';
import { fileSystemNotices, networkFileSystem } from '../../../agent/journal/file-system.ts';
import { inspectJournal } from '../../../agent/journal/inspect.ts';
import { errorText } from '../../../base/errors.ts';
import { removeIfThere } from '../../../base/remove-file.ts';
import { bytesText } from '../../output.ts';
import { EXIT, failed, ok, warning } from './check.ts';
import type { Check, Finding } from './check.ts';
import { mountOf } from './mounts.ts';
import type { Subject } from './subject.ts';

const MIB = 1024 * 1024;
/** What the journal keeps in reserve for tasks that run, and some for logs. */
const FREE_BYTES_MIN = 64 * MIB;
const FREE_INODES_NOTICE = 1_000;
const FREE_INODES_MIN = 20;
const PROBE_BYTES = 64 * 1024;
/** The quickest of them counts: other programs write too. */
const PROBES = 3;
/** Every task waits for a sync before it begins. */
const SYNC_NOTICE_MS = 100;

/** The checks. */
export const STATE_DIRECTORY_CHECKS: readonly Check[] = [
  {
    name: 'file-system',
    remedy: 'Set OUTPOST_HOME to a directory on a local disk of this host',
    run: fileSystemFinding,
  },
  {
    name: 'disk',
    settings: ['journal_bytes_max'],
    remedy: 'Free disk space, or set OUTPOST_HOME to a directory with more of it',
    run: diskFinding,
  },
  { name: 'journal', remedy: 'See: agent journal NAME', run: journalFinding },
];

async function fileSystemFinding({ context }: Subject): Promise<Finding> {
  const path = await realpath(context.directory.path);
  const [{ type }, mount] = await Promise.all([statfs(path), mountOf(path)]);
  const network = networkFileSystem(type);
  const name = network ?? mount?.type ?? `type 0x${type.toString(16)}`;
  const syncMs = await probe(path);
  if (typeof syncMs !== 'number') {
    return failed(
      EXIT.tryAgain,
      `nothing can be written in ${path}: ${errorText(syncMs.error)}`,
      'Free disk space or quota (see: quota -s), or have the file system mounted for writing',
      { path, file_system: name },
    );
  }
  const details = {
    path,
    file_system: name,
    mount: mount?.point ?? null,
    options: mount?.options ?? [],
    sync_ms: Math.round(syncMs * 10) / 10,
  };
  const [notice] = fileSystemNotices({ network });
  if (notice !== undefined) {
    return warning(
      notice,
      'Set OUTPOST_HOME to a directory on a local disk of this host, if it has one',
      details,
    );
  }
  const found = `${path} is on ${name}; a sync takes ${syncMs.toFixed(1)} ms`;
  return syncMs > SYNC_NOTICE_MS
    ? warning(`${found}, for which every task waits`, 'Set OUTPOST_HOME to a faster disk', details)
    : ok(found, details);
}

/** How long it takes to write and sync a small file, in milliseconds: quotas and read-only mounts show only so. */
async function probe(directory: string): Promise<number | { readonly error: unknown }> {
  const path = join(directory, `.doctor-${process.pid}-${randomBytes(4).toString('hex')}`);
  try {
    const file = await open(path, 'wx', 0o600);
    try {
      let leastMs = Infinity;
      for (let count = 0; count < PROBES; count += 1) {
        await file.write(Buffer.alloc(PROBE_BYTES));
        const begunMs = performance.now();
        await file.datasync();
        leastMs = Math.min(leastMs, performance.now() - begunMs);
      }
      return leastMs;
    } finally {
      await file.close();
      await removeIfThere(path);
    }
  } catch (error) {
    return { error };
  }
}

async function diskFinding({ context, settings }: Subject): Promise<Finding> {
  const { path } = context.directory;
  const { host, boot_id: bootId } = thisProcess();
  const [{ bavail, bsize, files, ffree }, journal] = await Promise.all([
    statfs(path),
    inspectJournal(join(path, 'journal'), host, bootId),
  ]);
  const freeBytes = bavail * bsize;
  const { journalBytesMax, logBytesMax } = settings.config;
  const mayGrow = Math.max(0, journalBytesMax - journal.bytes) + logBytesMax;
  // Some file systems make inodes as they need them, and count none.
  const freeInodes = files === 0 ? undefined : ffree;
  const details = {
    free_bytes: freeBytes,
    journal_bytes: journal.bytes,
    journal_bytes_max: journalBytesMax,
    free_inodes: freeInodes ?? null,
  };
  const inodes = freeInodes ?? Infinity;
  const text = `${bytesText(freeBytes)} free${freeInodes === undefined ? '' : `, ${freeInodes} files`}`;
  if (freeBytes < FREE_BYTES_MIN || inodes < FREE_INODES_MIN) {
    return failed(
      EXIT.tryAgain,
      `the disk of ${path} is full: ${text}; the agent takes no tasks`,
      `Free disk space there (df -h ${path}; df -i ${path}); the agent goes on by itself`,
      details,
    );
  }
  if (freeBytes < mayGrow || inodes < FREE_INODES_NOTICE) {
    return warning(
      `${text}, and journal and logs may grow by ${bytesText(mayGrow)} more`,
      'Free disk space, or lower journal_bytes_max: at its limit the agent takes no more tasks, on a full disk others suffer too',
      details,
    );
  }
  return ok(
    `${text}; the journal uses ${bytesText(journal.bytes)} of at most ${bytesText(journalBytesMax)}`,
    details,
  );
}

async function journalFinding({ context }: Subject): Promise<Finding> {
  const { host, boot_id: bootId } = thisProcess();
  const { name, path } = context.directory;
  const { tasks, hosts, notices } = await inspectJournal(join(path, 'journal'), host, bootId);
  const keptAside = hosts.flatMap(({ kept_aside: kept }) => kept.map(({ file }) => file));
  const foreign = hosts.filter((one) => !one.is_own).map((one) => one.host);
  const details = {
    tasks: tasks.length,
    hosts: hosts.map((one) => ({ host: one.host, tasks: one.tasks })),
    notices,
  };
  if (keptAside.length > 0) {
    return warning(
      `a damaged part of the journal was kept aside: ${keptAside.join(', ')}`,
      `The agent goes on without it; tasks in it were lost. Keep the files for a report, or remove them. See: agent journal ${name}`,
      details,
    );
  }
  const elsewhere = foreign.length === 0 ? '' : `, also of ${foreign.join(', ')}`;
  return ok(
    `it holds ${tasks.length} ${tasks.length === 1 ? 'task' : 'tasks'} that have not ended${elsewhere}`,
    details,
  );
}
