/**
 * What the control groups of a process allow: memory, processor time, number of processes, in version 1 and 2.
 *
 * A limit of any group above holds as well, so the least is what counts. In a container the path that the kernel names is often not the
 * one under which the group is mounted; the mount itself is then its group.
 */
import { readFileSync } from 'node:fs';

/** Undefined: no limit, or none that can be seen. */
export interface ControlGroupLimits {
  readonly memoryBytes: number | undefined;
  /** Processors, also parts of one. */
  readonly processors: number | undefined;
  readonly processes: number | undefined;
  /** What is used of them in the group whose limit is the least. */
  readonly memoryUsedBytes: number | undefined;
  readonly processesUsed: number | undefined;
}

/** Reads a file; undefined when it is not there. */
export type ReadText = (path: string) => string | undefined;

const ROOT = '/sys/fs/cgroup';
/** Version 1 says "no limit" with the largest multiple of a page. */
const UNLIMITED_BYTES = 2 ** 60;

/** What the control groups allow, from the text of /proc/PID/cgroup. */
export function controlGroupLimits(
  membership: string,
  read: ReadText = readText,
): ControlGroupLimits {
  const memory = least(
    [...filesOf(membership, 'memory', read)].map(({ directory, isUnified }) => ({
      limit: numberIn(read(`${directory}/${isUnified ? 'memory.max' : 'memory.limit_in_bytes'}`)),
      used: numberIn(
        read(`${directory}/${isUnified ? 'memory.current' : 'memory.usage_in_bytes'}`),
      ),
    })),
    UNLIMITED_BYTES,
  );
  const processes = least(
    [...filesOf(membership, 'pids', read)].map(({ directory }) => ({
      limit: numberIn(read(`${directory}/pids.max`)),
      used: numberIn(read(`${directory}/pids.current`)),
    })),
  );
  const processors = least(
    [...filesOf(membership, 'cpu', read)].map(({ directory, isUnified }) => ({
      limit: isUnified
        ? shareIn(read(`${directory}/cpu.max`))
        : share(
            numberIn(read(`${directory}/cpu.cfs_quota_us`)),
            numberIn(read(`${directory}/cpu.cfs_period_us`)),
          ),
      used: undefined,
    })),
  );
  return {
    memoryBytes: memory?.limit,
    memoryUsedBytes: memory?.used,
    processors: processors?.limit,
    processes: processes?.limit,
    processesUsed: processes?.used,
  };
}

interface GroupDirectory {
  readonly directory: string;
  readonly isUnified: boolean;
}

/** The group of a controller and all above it. */
function* filesOf(
  membership: string,
  controller: string,
  read: ReadText,
): Generator<GroupDirectory> {
  for (const line of membership.split('\n')) {
    const [id, controllers = '', ...rest] = line.split(':');
    const path = rest.join(':');
    const isUnified = id === '0' && controllers === '';
    if (!isUnified && !controllers.split(',').includes(controller)) {
      continue;
    }
    // Beside version 1, version 2 is mounted elsewhere and has no controllers.
    const mounts = isUnified ? [ROOT] : [`${ROOT}/${controller}`, `${ROOT}/${controllers}`];
    const mount = mounts.find((one) => read(`${one}/cgroup.procs`) !== undefined);
    if (mount === undefined) {
      continue;
    }
    const parts = path.split('/').filter((part) => part !== '' && part !== '..');
    for (let count = parts.length; count >= 0; count -= 1) {
      yield { directory: [mount, ...parts.slice(0, count)].join('/'), isUnified };
    }
  }
}

interface Usage {
  readonly limit: number | undefined;
  readonly used: number | undefined;
}

function least(
  usages: readonly Usage[],
  unlimited = Infinity,
): (Usage & { readonly limit: number }) | undefined {
  let found: (Usage & { readonly limit: number }) | undefined;
  for (const { limit, used } of usages) {
    if (limit !== undefined && limit < unlimited && (found === undefined || limit < found.limit)) {
      found = { limit, used };
    }
  }
  return found;
}

function numberIn(text: string | undefined): number | undefined {
  const number = Number(text?.trim() ?? '');
  return text === undefined || text.trim() === '' || !Number.isFinite(number) || number < 0
    ? undefined
    : number;
}

/** `max 100000`, `50000 100000`. */
function shareIn(text: string | undefined): number | undefined {
  const [quota, period] = (text ?? '').trim().split(' ');
  return share(numberIn(quota), numberIn(period));
}

function share(quota: number | undefined, period: number | undefined): number | undefined {
  return quota === undefined || period === undefined || period === 0 ? undefined : quota / period;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    // Not there on this kernel, or not ours to see: no limit that could be told.
    return undefined;
  }
}
