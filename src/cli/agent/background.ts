/**
 * Starts an agent as a background process and follows it until it is online, has failed, or the time is over.
 *
 * The process is detached: it outlives the terminal, and signals of the terminal do not reach it. Its log is its own; what
 * the runtime itself writes on stderr when it crashes goes to logs/stderr.log, which begins anew with each start.
 */
import type { ChildProcess } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';

import { systemClock } from '../../base/clock.ts';
import { ComputeError, InvariantError, UnavailableError } from '../../base/errors.ts';
import { ensureLogsDirectory } from '../../config/endpoint-directory.ts';
import type { CommandFailure } from '../run-command.ts';
import { readReports } from './daemon-channel.ts';
import type { DaemonReport, Handover, StartReport } from './daemon-channel.ts';
import { takeDaemon } from './daemon-process.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import type { HubView } from './hub-view.ts';
import { formatLogLine, tailLines } from './log-lines.ts';

/** An agent that is online. */
export interface OnlineAgent {
  readonly pid: number;
  readonly endpointId: string;
  readonly hub: HubView;
}

/** What the background process said when it ended, in its own words and with its exit code. */
class BackgroundStartError extends ComputeError {
  constructor({ code, message, exitCode, details }: CommandFailure) {
    super(code, message, exitCode, details === undefined ? {} : { details });
  }
}

const EXIT_SOFTWARE = 70;
const LOG_TAIL_LINES = 20;

/** How a start can end. */
type StartEnd =
  | { readonly kind: 'online'; readonly agent: OnlineAgent }
  | { readonly kind: 'failed'; readonly failure: CommandFailure }
  | { readonly kind: 'exited'; readonly how: string; readonly exitCode: number }
  | { readonly kind: 'timed-out' }
  | { readonly kind: 'interrupted' };

/** Starts the agent and waits. @throws ComputeError with the words and the exit code of the process when it failed. */
export async function startInBackground(
  context: EndpointContext,
  handover: Handover,
  timeoutMs: number,
  onProgress: (progress: StartReport) => void,
): Promise<OnlineAgent> {
  const { directory } = context;
  await ensureLogsDirectory(directory);
  const child = takeDaemon(directory, context.environment);
  const { handoverChannel, reportChannel } = channelsOf(child);
  handoverChannel.on('error', () => {
    // It ended before it read; how it ended is what will be reported.
    handoverChannel.destroy();
  });
  handoverChannel.end(`${JSON.stringify(handover)}\n`);
  const end = await followStart(child, reportChannel, timeoutMs, onProgress);
  switch (end.kind) {
    case 'online':
      return end.agent;
    case 'failed':
      throw new BackgroundStartError(end.failure);
    case 'exited':
      throw new BackgroundStartError({
        code: 'START_FAILED',
        exitCode: end.exitCode,
        message: `The agent ended (${end.how}) before it was online.${await lastWords(context)}`,
      });
    case 'interrupted':
      child.kill('SIGTERM');
      throw new BackgroundStartError({
        code: 'INTERRUPTED',
        exitCode: 130,
        message: 'Interrupted; the agent was told to stop.',
      });
    case 'timed-out':
      throw new UnavailableError(
        'TIMED_OUT',
        `The agent (process ${child.pid ?? '?'}) is not online after ${timeoutMs / 1000} s. It keeps trying in the background; ` +
          `see: agent status ${directory.name}, agent logs ${directory.name}${await lastWords(context)}`,
        { details: { pid: child.pid } },
      );
  }
}

function channelsOf(child: ChildProcess): { handoverChannel: Writable; reportChannel: Readable } {
  const [, , , handoverChannel, reportChannel] = child.stdio;
  if (!isStream(handoverChannel) || !isStream(reportChannel)) {
    throw new InvariantError('the background process was made without its channels');
  }
  return {
    handoverChannel: handoverChannel as Writable,
    reportChannel: reportChannel as Readable,
  };
}

function isStream(value: unknown): value is Readable | Writable {
  return typeof value === 'object' && value !== null;
}

async function followStart(
  child: ChildProcess,
  reportChannel: Readable,
  timeoutMs: number,
  onProgress: (progress: StartReport) => void,
): Promise<StartEnd> {
  let failure: CommandFailure | undefined;
  const interrupted = new AbortController();
  const onInterrupt = (): void => {
    interrupted.abort();
  };
  process.once('SIGINT', onInterrupt);
  const end = await new Promise<StartEnd>((resolve, reject) => {
    const timer = systemClock.after(timeoutMs, () => {
      resolve({ kind: 'timed-out' });
    });
    const settle = (value: StartEnd): void => {
      timer.cancel();
      resolve(value);
    };
    interrupted.signal.addEventListener('abort', () => {
      settle({ kind: 'interrupted' });
    });
    child.on('error', (error) => {
      const how = `it could not be started: ${error.message}`;
      settle({ kind: 'exited', how, exitCode: 71 });
    });
    const onReport = (report: DaemonReport): void => {
      if ('error' in report) {
        failure = report.error;
        return;
      }
      onProgress(report);
      if (report.state === 'online') {
        // What it still asks the hub does not take long.
        timer.cancel();
      } else if (report.state === 'confirmed') {
        const { pid, endpointId, hub } = report;
        settle({ kind: 'online', agent: { pid, endpointId, hub } });
      }
    };
    const reported = readReports(reportChannel, onReport);
    reported.catch(reject);
    child.on('exit', (code, signal) => {
      const how = signal ?? `exit code ${code ?? '?'}`;
      // What it reported last may still be on its way.
      reported.then(() => {
        if (failure === undefined) {
          settle({ kind: 'exited', how, exitCode: exitCodeOf(code) });
        } else {
          settle({ kind: 'failed', failure });
        }
      }, reject);
    });
  });
  process.off('SIGINT', onInterrupt);
  reportChannel.removeAllListeners();
  reportChannel.destroy();
  child.unref();
  return end;
}

// Ending by a signal, or in peace before it was online, is a failure to start all the same.
function exitCodeOf(code: number | null): number {
  return code === null || code === 0 ? EXIT_SOFTWARE : code;
}

async function lastWords({ directory }: EndpointContext): Promise<string> {
  const log = await tailLines(directory.logPath, LOG_TAIL_LINES);
  const stderr = await tailLines(directory.stderrPath, LOG_TAIL_LINES);
  const lines = [
    ...(log?.lines ?? []).map((line) => `  ${formatLogLine(line)}`),
    ...(stderr?.lines ?? []).map((line) => `  ${line}`),
  ];
  return lines.length === 0 ? '' : [`\nThe end of ${directory.logPath}:`, ...lines].join('\n');
}
