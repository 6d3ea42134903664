/**
 * Runs an agent as a process: signals in, exit code out.
 *
 * The ladder: the first SIGTERM or SIGINT drains; the second cancels what runs; the third kills what runs and exits at once with
 * 128 + signal. SIGQUIT starts at the second step, with the agent's status in the log. SIGHUP reads the settings again, unless it
 * tells that the terminal is gone on which the agent runs: then it is the first step. An overall timer ends the process if a step
 * hangs. I7: whichever way the process ends, nothing of it stays alive.
 */
import type { Clock } from '../base/clock.ts';
import { systemClock } from '../base/clock.ts';
import type { ComputeError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import type { AgentOptions } from './agent-options.ts';
import { Agent } from './agent.ts';
import type { AgentListener } from './agent.ts';

const SIGNAL_NUMBERS = { SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const;
type StopSignal = keyof typeof SIGNAL_NUMBERS;

/** What a process that runs an agent provides. */
export interface RunAgentOptions {
  readonly options: AgentOptions;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** The endpoint consumes and its heartbeat was confirmed. Called once. */
  readonly onOnline: (info: { endpointId: string; pid: number }) => void;
  /** The agent has been made; what is returned is told what becomes of it. */
  readonly watch?: (agent: Agent) => Omit<AgentListener, 'onFatal' | 'onIdle' | 'onStopCommand'>;
  /** Whether the terminal on which this process was started is gone; asked at SIGHUP. */
  readonly isTerminalLost?: () => boolean;
  /** Ends the process; only the command line may. */
  readonly exit: (code: number) => void;
}

/**
 * Runs until a signal, a fatal condition or idleness ends the agent.
 *
 * @returns the exit code: 0 after a stop that was asked for, by somebody or by the settings.
 * @throws ComputeError when the agent cannot run: refused credentials, another holder of the lease.
 */
export async function runAgent(run: RunAgentOptions): Promise<number> {
  const { options, logger } = run;
  const clock = run.clock ?? systemClock;
  let end: (fatal: ComputeError | undefined) => void = () => undefined;
  const ended = new Promise<ComputeError | undefined>((resolve) => {
    end = resolve;
  });
  let announced = false;
  let watcher: Omit<AgentListener, 'onFatal' | 'onIdle' | 'onStopCommand'> = {};
  const agent = new Agent(options, clock, logger, {
    onOnline: () => {
      const { endpointId } = agent;
      if (!announced && endpointId !== undefined) {
        announced = true;
        logger.info({ endpointId }, 'endpoint is online');
        run.onOnline({ endpointId, pid: process.pid });
      }
      watcher.onOnline?.();
    },
    onFatal: end,
    onIdle: () => {
      end(undefined);
    },
    onStopCommand: () => {
      end(undefined);
    },
    onChange: () => watcher.onChange?.(),
    onReloading: () => watcher.onReloading?.(),
    onReloaded: (report) => watcher.onReloaded?.(report),
  });
  watcher = run.watch?.(agent) ?? {};
  const exit = (code: number): void => {
    agent.kill();
    run.exit(code);
  };
  installSignals(agent, run, exit, () => {
    end(undefined);
  });
  // A stop that arrives while a first registration waits for the hub must not wait with it.
  const fatal = await new Promise<ComputeError | undefined>((resolve, reject) => {
    agent.start().catch(reject);
    ended.then(resolve, reject);
  });
  const limit = clock.after(agent.stopLimitMs, () => {
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

function installSignals(
  agent: Agent,
  { logger, isTerminalLost }: RunAgentOptions,
  exit: (code: number) => void,
  stop: () => void,
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
    stop();
  };
  for (const signal of Object.keys(SIGNAL_NUMBERS) as StopSignal[]) {
    process.on(signal, climb);
  }
  process.on('SIGHUP', () => {
    if (isTerminalLost?.() === true) {
      // Shell and kernel may both say so: that it comes again hurries nothing.
      rung = Math.max(rung, 1);
      logger.info({ signal: 'SIGHUP' }, 'the terminal is gone, stopping');
      stop();
      return;
    }
    logger.info({ signal: 'SIGHUP' }, 'signal received, reading the settings again');
    detach(logger, 'reading the settings again', agent.reload());
  });
}
