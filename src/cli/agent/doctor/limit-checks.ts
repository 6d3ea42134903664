/** What the system allows: limits of the process, control groups, and the customs of login nodes. */
import { readFileSync, readdirSync } from 'node:fs';

import { findBatchScheduler } from '../../../config/batch-scheduler.ts';
import { bytesText, durationText } from '../../output.ts';
import { findPresence } from '../presence.ts';
import { ok, warning } from './check.ts';
import type { Check, Finding } from './check.ts';
import { controlGroupLimits } from './control-groups.ts';
import type { Subject } from './subject.ts';

const MIB = 1024 * 1024;
const OPEN_FILES_MIN = 1024;
/** The agent, the host and the threads that Node and the interpreters have beside their work. */
const PROCESSES_BASE = 64;
const PROCESSES_A_PLACE = 16;
/** Node maps much more than it uses. */
const ADDRESS_SPACE_MIN = 4096 * MIB;
const GROUP_MEMORY_MIN = 256 * MIB;
const GROUP_PROCESSORS_MIN = 0.25;
/** What an idle agent uses of one processor (the budget that is tested). */
const IDLE_SHARE = 0.0002;

/** The checks. */
export const LIMIT_CHECKS: readonly Check[] = [
  { name: 'process-limits', remedy: 'See: ulimit -a', run: processLimitsFinding },
  { name: 'control-group', remedy: 'See: systemd-cgls', run: controlGroupFinding },
  { name: 'login-node', remedy: 'See: ulimit -t', run: loginNodeFinding },
];

/** What is wrong with one limit. */
interface Tight {
  readonly what: string;
  readonly remedy: string;
}

/** The process whose limits count: the agent where it runs, else this one, which would start it. */
async function measured({
  context,
}: Subject): Promise<{ readonly pid: string; readonly whose: string }> {
  const presence = await findPresence(context.directory);
  return presence.kind === 'running'
    ? {
        pid: String(presence.holder.pid),
        whose: `of the running agent, process ${presence.holder.pid}`,
      }
    : { pid: 'self', whose: 'of this shell' };
}

/** Soft limits by their names in /proc/PID/limits; undefined is no limit. */
export function softLimits(text: string): ReadonlyMap<string, number | undefined> {
  const limits = new Map<string, number | undefined>();
  for (const line of text.split('\n').slice(1)) {
    const [name = '', soft = ''] = line.split(/\s{2,}/);
    if (/^\d+$|^unlimited$/.test(soft)) {
      limits.set(name, soft === 'unlimited' ? undefined : Number(soft));
    }
  }
  return limits;
}

async function processLimitsFinding(subject: Subject): Promise<Finding> {
  const { pid, whose } = await measured(subject);
  const limits = softLimits(readFileSync(`/proc/${pid}/limits`, 'latin1'));
  const [files, processes, memory] = ['Max open files', 'Max processes', 'Max address space'].map(
    (name) => limits.get(name),
  );
  const { javascriptThreads, pythonInterpreters } = subject.settings.config;
  const needed = PROCESSES_BASE + PROCESSES_A_PLACE * (javascriptThreads + pythonInterpreters);
  const uid = process.getuid?.() ?? 0;
  // Root is not held to it.
  const used = uid === 0 ? 0 : countThreads(uid);
  const tight: Tight[] = [];
  if (files !== undefined && files < OPEN_FILES_MIN) {
    tight.push({ what: `only ${files} files may be open`, remedy: `ulimit -n ${OPEN_FILES_MIN}` });
  }
  if (uid !== 0 && processes !== undefined && processes - used < needed) {
    tight.push({
      what: `only ${processes} processes and threads are allowed to this user, ${used} of them in use; the agent needs about ${needed}`,
      remedy:
        'end what you no longer need, lower javascript_threads and python_interpreters, or ask for more (ulimit -u)',
    });
  }
  if (memory !== undefined && memory < ADDRESS_SPACE_MIN) {
    tight.push({
      what: `only ${bytesText(memory)} of address space are allowed, of which Node maps much more than it uses`,
      remedy: 'ulimit -v unlimited, where that is allowed',
    });
  }
  const shown = (value: number | undefined): string =>
    value === undefined ? 'unlimited' : String(value);
  const details = {
    pid: pid === 'self' ? process.pid : Number(pid),
    open_files: files ?? null,
    processes: processes ?? null,
    processes_used: uid === 0 ? null : used,
    address_space_bytes: memory ?? null,
  };
  return tight.length === 0
    ? ok(
        `files ${shown(files)}, processes ${shown(processes)}, address space ${memory === undefined ? 'unlimited' : bytesText(memory)} (${whose})`,
        details,
      )
    : warning(
        `${tight.map(({ what }) => what).join('; ')} (${whose})`,
        `${tight.map(({ remedy }) => remedy).join('; ')}; then start the agent again from that shell`,
        details,
      );
}

function countThreads(uid: number): number {
  let count = 0;
  for (const name of readdirSync('/proc')) {
    if (/^\d+$/.test(name)) {
      try {
        const status = readFileSync(`/proc/${name}/status`, 'latin1');
        const isOurs = new RegExp(`^Uid:\\s+${uid}\\s`, 'm').test(status);
        count += isOurs ? Number(/^Threads:\s+(\d+)/m.exec(status)?.[1] ?? 1) : 0;
      } catch {
        // It has ended meanwhile.
        continue;
      }
    }
  }
  return count;
}

async function controlGroupFinding(subject: Subject): Promise<Finding> {
  const { pid, whose } = await measured(subject);
  const limits = controlGroupLimits(readFileSync(`/proc/${pid}/cgroup`, 'latin1'));
  const { memoryBytes, memoryUsedBytes = 0, processors, processes, processesUsed = 0 } = limits;
  const { javascriptThreads, pythonInterpreters } = subject.settings.config;
  const needed = PROCESSES_BASE + PROCESSES_A_PLACE * (javascriptThreads + pythonInterpreters);
  const tight: string[] = [];
  if (memoryBytes !== undefined && memoryBytes - memoryUsedBytes < GROUP_MEMORY_MIN) {
    tight.push(
      `${bytesText(Math.max(0, memoryBytes - memoryUsedBytes))} of ${bytesText(memoryBytes)} memory are left: tasks and the agent are killed when it is used up`,
    );
  }
  if (processors !== undefined && processors < GROUP_PROCESSORS_MIN) {
    tight.push(`only ${processors.toFixed(2)} of a processor may be used`);
  }
  if (processes !== undefined && processes - processesUsed < needed) {
    tight.push(
      `${Math.max(0, processes - processesUsed)} more processes and threads are allowed, and the agent needs about ${needed}`,
    );
  }
  const found = [
    `memory ${memoryBytes === undefined ? 'unlimited' : bytesText(memoryBytes)}`,
    `processors ${processors === undefined ? 'unlimited' : processors.toFixed(1)}`,
    `processes ${processes ?? 'unlimited'}`,
  ].join(', ');
  const details = {
    memory_bytes: memoryBytes ?? null,
    memory_used_bytes: limits.memoryUsedBytes ?? null,
    processors: processors ?? null,
    processes: processes ?? null,
    processes_used: limits.processesUsed ?? null,
  };
  return tight.length === 0
    ? ok(`${found} (${whose})`, details)
    : warning(
        `${tight.join('; ')} (${whose})`,
        'Lower the number of workers, or ask whoever sets these limits for more (systemd: MemoryMax=, TasksMax=, CPUQuota=)',
        details,
      );
}

async function loginNodeFinding(subject: Subject): Promise<Finding> {
  const { pid, whose } = await measured(subject);
  const seconds = softLimits(readFileSync(`/proc/${pid}/limits`, 'latin1')).get('Max cpu time');
  const { context, settings } = subject;
  const scheduler = findBatchScheduler(context.environment);
  const { javascriptThreads, pythonInterpreters } = settings.config;
  const slots = javascriptThreads + pythonInterpreters;
  const details = {
    batch_scheduler: scheduler ?? null,
    cpu_seconds_max: seconds ?? null,
    workers: slots,
  };
  if (seconds !== undefined) {
    return warning(
      `a process is killed after ${durationText(seconds * 1000)} of processor time (${whose}): an idle agent lasts ${durationText((seconds / IDLE_SHARE) * 1000)}, and every task counts for its worker`,
      `ulimit -t unlimited, where that is allowed; else have cron start it again: agent enable-on-boot ${context.directory.name} --cron`,
      details,
    );
  }
  if (scheduler !== undefined && slots > 0) {
    return warning(
      `a batch scheduler is installed (${scheduler}), so this is most likely a login node, and ${slots} workers would run tasks on it`,
      'Make sure that its operators allow that; else set javascript_threads and python_interpreters to 0, and worker_nice to 19 for what remains',
      details,
    );
  }
  return ok(
    scheduler === undefined
      ? 'no batch scheduler here, no limit on processor time'
      : `a batch scheduler is installed (${scheduler}): no workers run here, as is the custom on login nodes`,
    details,
  );
}
