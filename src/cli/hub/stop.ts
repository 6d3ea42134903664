/** `hub stop`: stops the hub that `hub dev` started, and waits until it has ended. */
import { sleep, systemClock } from '../../base/clock.ts';
import { UnavailableError } from '../../base/errors.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import { outpostHome } from '../../config/endpoint-directory.ts';
import { isAlive, signalProcess } from '../../hub/dev/process-identity.ts';
import type { ProcessIdentity } from '../../hub/dev/process-identity.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { runningDevHub } from './dev-record.ts';

/** In order: requests, task plane, then RabbitMQ, which alone may take 6 s. */
const STOP_TIMEOUT_MS = 30_000;
const KILL_TIMEOUT_MS = 5000;
const LOOK_EVERY_MS = 20;

/** The command. */
export const stop = defineCommand(
  (parser) => parser,
  async (argv) => {
    const running = runningDevHub(outpostHome(processEnvironment()));
    if (running === undefined) {
      report(argv.json, { stopped: false, running: false }, 'no hub is running');
      return 0;
    }
    signalProcess(running, 'SIGTERM');
    if (!(await endedWithin(running, STOP_TIMEOUT_MS))) {
      // The second signal is the one that kills.
      signalProcess(running, 'SIGTERM');
      if (!(await endedWithin(running, KILL_TIMEOUT_MS))) {
        throw new UnavailableError(
          'TIMED_OUT',
          `the hub (pid ${running.pid}) does not end; end it with: kill -9 ${running.pid}`,
        );
      }
    }
    report(argv.json, { stopped: true, running: false, pid: running.pid }, 'hub stopped');
    return 0;
  },
);

async function endedWithin(identity: ProcessIdentity, limitMs: number): Promise<boolean> {
  const until = systemClock.monotonicMs() + limitMs;
  while (isAlive(identity)) {
    if (systemClock.monotonicMs() >= until) {
      return false;
    }
    await sleep(systemClock, LOOK_EVERY_MS);
  }
  return true;
}

function report(asJson: boolean, document: object, text: string): void {
  if (asJson) {
    printJson(document);
  } else {
    printLine(text);
  }
}
