/**
 * What is still there after everything was stopped: processes that carry the run's cookie (its directory) in their environment or work
 * below it, ports that are still listened on, and Unix sockets below the directory. A zombie is dead; who should have reaped it is
 * not our matter.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

import { sleep, systemClock } from '../src/base/clock.ts';
import { errorCode } from '../src/base/errors.ts';

const LISTEN = '0A';
/** A process that was killed needs a moment to be gone. */
const SETTLE_MS = 20_000;
const LOOK_EVERY_MS = 50;

/** Survivors in words; waits a moment for what is on its way out. */
export async function findSurvivors(
  directory: string,
  ports: readonly number[],
): Promise<readonly string[]> {
  const until = systemClock.monotonicMs() + SETTLE_MS;
  for (;;) {
    const found = [
      ...processesOf(directory),
      ...listeningPorts()
        .filter((port) => ports.includes(port))
        .map((port) => `a socket listens on port ${port}`),
      ...unixSockets(directory).map((path) => `a socket listens on ${path}`),
    ];
    if (found.length === 0 || systemClock.monotonicMs() >= until) {
      return found;
    }
    await sleep(systemClock, LOOK_EVERY_MS);
  }
}

function processesOf(directory: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      const stat = read(`/proc/${pid}/stat`);
      const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
      if (state === '' || state === 'Z' || state === 'X') {
        return [];
      }
      const isOurs =
        read(`/proc/${pid}/environ`).includes(directory) ||
        isBelow(workingDirectory(pid), directory);
      const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
      return isOurs ? [`process ${pid} (${state}): ${command}`] : [];
    });
}

function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

function workingDirectory(pid: string): string {
  return quietly(() => readlinkSync(`/proc/${pid}/cwd`));
}

function read(path: string): string {
  return quietly(() => readFileSync(path, 'latin1'));
}

/** Processes end while we look, and some are not ours to look into. */
function quietly(look: () => string): string {
  try {
    return look();
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(errorCode(error) ?? '')) {
      return '';
    }
    throw error;
  }
}

function listeningPorts(): number[] {
  return ['/proc/net/tcp', '/proc/net/tcp6'].flatMap((path) =>
    read(path)
      .split('\n')
      .slice(1)
      .flatMap((line) => {
        const [, local, , state] = line.trim().split(/\s+/);
        return state === LISTEN ? [parseInt(local?.split(':')[1] ?? '', 16)] : [];
      }),
  );
}

function unixSockets(directory: string): string[] {
  return read('/proc/net/unix')
    .split('\n')
    .flatMap((line) => {
      const path = line.trim().split(/\s+/)[7] ?? '';
      return isBelow(path, directory) ? [path] : [];
    });
}
