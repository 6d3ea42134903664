/**
 * A CPU profiler inside a process: SIGUSR2 starts it, the next SIGUSR2 stops it and writes `NAME.cpuprofile`. So the profile holds the
 * burst that is measured and not the start of the process.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { join } from 'node:path';

const SAMPLING_INTERVAL_US = 200;

/** File that appears when the profiler runs. */
export function startedPath(directory: string, name: string): string {
  return join(directory, `${name}.started`);
}

/** File that appears, whole, when the profiler has stopped. */
export function profilePath(directory: string, name: string): string {
  return join(directory, `${name}.cpuprofile`);
}

/** Listens for the signal. */
export function profileOnSignal(directory: string, name: string): void {
  let session: Session | undefined;
  const toggle = async (): Promise<void> => {
    if (session === undefined) {
      session = new Session();
      session.connect();
      await session.post('Profiler.enable');
      await session.post('Profiler.setSamplingInterval', { interval: SAMPLING_INTERVAL_US });
      await session.post('Profiler.start');
      writeFileSync(startedPath(directory, name), '');
    } else {
      const { profile } = await session.post('Profiler.stop');
      const path = profilePath(directory, name);
      writeFileSync(`${path}.part`, JSON.stringify(profile));
      renameSync(`${path}.part`, path);
    }
  };
  process.on('SIGUSR2', () => {
    toggle().catch((error: unknown) => {
      process.stderr.write(`profiler of ${name}: ${String(error)}\n`);
    });
  });
}
