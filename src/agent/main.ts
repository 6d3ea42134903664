/**
 * Runs an agent as a process: signals in, exit code out.
 *
 * The ladder: the first SIGTERM or SIGINT drains; the second cancels what runs; the third kills what runs and exits at once with
 * 128 + signal. SIGQUIT starts at the second step, with the agent's status in the log. An overall timer ends the process if a step
 * hangs. I7: whichever way the process ends, nothing of it stays alive.
 */
import type { Clock } from '../base/clock.ts';
import { systemClock } from '../base/clock.ts';
import type { ComputeError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { AgentOptions } from './agent-options.ts';
import { Agent } from './agent.ts';

const SIGNAL_NUMBERS = { SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const;
type StopSignal = keyof typeof SIGNAL_NUMBERS;

/** Longest that the steps after the drain may take together, in milliseconds. */
const SHUTDOWN_LIMIT_MS = 45_000;

/** What a process that runs an agent provides. */
export interface RunAgentOptions {
  readonly options: AgentOptions;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** The endpoint consumes and its heartbeat was confirmed. Called once. */
  readonly onOnline: (info: { endpointId: string; pid: number }) => void;
  /** Ends the process; only the command line may. */
  readonly exit: (code: number) => void;
}

/**
 * Runs until a signal or a fatal condition ends the agent.
 *
 * @returns the exit code: 0 after a stop that was asked for.
 * @throws ComputeError when the agent cannot run: refused credentials, another holder of the lease.
 */
export async function runAgent(run: RunAgentOptions): Promise<number> {
  const { options, logger } = run;
  const clock = run.clock ?? systemClock;
  const agent = new Agent(options, clock, logger);
  const exit = (code: number): void => {
    agent.kill();
    run.exit(code);
  };
  let announced = false;
  agent.onOnline(() => {
    const { endpointId } = agent;
    if (!announced && endpointId !== undefined) {
      announced = true;
      logger.info({ endpointId }, 'endpoint is online');
      run.onOnline({ endpointId, pid: process.pid });
    }
  });
  const ended = new Promise<ComputeError | undefined>((resolve) => {
    agent.onFatal(resolve);
    installSignalLadder(agent, logger, exit, resolve);
  });
  // A stop that arrives while a first registration waits for the hub must not wait with it.
  const fatal = await new Promise<ComputeError | undefined>((resolve, reject) => {
    agent.start().catch(reject);
    ended.then(resolve, reject);
  });
  const limit = clock.after(options.drainGraceMs + options.killGraceMs + SHUTDOWN_LIMIT_MS, () => {
    logger.fatal({}, 'the shutdown hangs, exiting');
    exit(70);
  });
  await agent.stop();
  limit.cancel();
  if (fatal !== undefined) {
    throw fatal;
  }
  logger.info({}, 'stopped');
  return 0;
}

function installSignalLadder(
  agent: Agent,
  logger: Logger,
  exit: (code: number) => void,
  stop: (fatal: undefined) => void,
): void {
  let rung = 0;
  const climb = (signal: StopSignal): void => {
    rung = signal === 'SIGQUIT' ? Math.max(rung + 1, 2) : rung + 1;
    logger.info({ signal, rung }, 'signal received');
    if (rung >= 3) {
      exit(128 + SIGNAL_NUMBERS[signal]);
      return;
    }
    if (signal === 'SIGQUIT') {
      logger.info({ status: agent.status() }, 'status at SIGQUIT');
    }
    if (rung === 2) {
      agent.cancelRunning();
    }
    stop(undefined);
  };
  for (const signal of Object.keys(SIGNAL_NUMBERS) as StopSignal[]) {
    process.on(signal, climb);
  }
  // A closed terminal does not end a daemon; re-reading the configuration comes with the options that can change.
  process.on('SIGHUP', () => {
    logger.info({ signal: 'SIGHUP' }, 'signal received, nothing to reload');
  });
}
