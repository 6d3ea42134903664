/**
 * How `agent start` and the background process that it makes talk: two pipes, JSON lines.
 *
 *   descriptor 3   parent → child   one line: credentials that stand only in the parent's environment, and flags; then the end.
 *                                   The end without a line: the child is not wanted after all
 *   descriptor 4   child → parent   {state, pid, endpointId} as it comes up, or {error}
 *
 * Credentials go this way so that they do not stand in /proc/<pid>/environ or on a command line. The child goes on when
 * the parent has left: what it writes is then lost.
 */
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { text as readAll } from 'node:stream/consumers';

import { InvariantError, UsageError } from '../../base/errors.ts';
import { errorDocument } from '../run-command.ts';
import type { CommandFailure } from '../run-command.ts';
import type { StartProgress } from './agent-process.ts';
import type { HubView } from './hub-view.ts';

/** Descriptor on which the child receives. */
export const HANDOVER_DESCRIPTOR = 3;
/** Descriptor on which the child reports. */
export const REPORT_DESCRIPTOR = 4;

/** What the child is told. */
export interface Handover {
  readonly credentials?: {
    readonly clientId: string;
    readonly clientSecret: string;
    readonly source: string;
  };
  readonly flags: Readonly<Record<string, unknown>>;
  readonly takeover: boolean;
}

/** How far a start has come: in the end the hub has been asked, too. */
export type StartReport =
  | StartProgress
  | {
      readonly state: 'confirmed';
      readonly pid: number;
      readonly endpointId: string;
      readonly hub: HubView;
    };

/** What the parent is told. */
export type DaemonReport = StartReport | { readonly error: CommandFailure };

/** The child's end. */
export interface DaemonReporter {
  readonly progress: (progress: StartReport) => void;
  readonly failed: (error: unknown) => void;
}

/** Reads what the parent hands over; nothing when it has no use for us. @throws UsageError when `agent start` has not started this process. */
export async function receiveHandover(): Promise<Handover | undefined> {
  let channel: Socket;
  try {
    channel = new Socket({ fd: HANDOVER_DESCRIPTOR, readable: true, writable: false });
  } catch (error) {
    throw new UsageError(
      'agent-daemon is for `agent start` itself; use: agent start --foreground',
      {
        cause: error,
      },
    );
  }
  const line = await readAll(channel);
  channel.destroy();
  return line === '' ? undefined : (JSON.parse(line) as Handover);
}

/** Opens the way back to the parent. Nothing that goes wrong on it concerns the agent. */
export function openReporter(): DaemonReporter {
  const channel = new Socket({ fd: REPORT_DESCRIPTOR, readable: false, writable: true });
  channel.on('error', () => {
    // The parent has left, by its time limit or Ctrl-C; there is nobody to tell.
    channel.destroy();
  });
  channel.unref();
  const send = (report: DaemonReport): void => {
    if (!channel.destroyed) {
      channel.write(`${JSON.stringify(report)}\n`);
    }
  };
  return {
    progress: (progress) => {
      send(progress);
      if (progress.state === 'confirmed') {
        channel.end();
      }
    },
    failed: (error) => {
      send({ error: errorDocument(error) });
    },
  };
}

/** Calls back for each report of the child; the returned promise resolves at the end of the channel. */
export async function readReports(
  channel: Readable,
  onReport: (report: DaemonReport) => void,
): Promise<void> {
  let rest = '';
  for await (const chunk of channel) {
    if (!(chunk instanceof Buffer)) {
      throw new InvariantError('the report channel yields something other than bytes');
    }
    const parts = (rest + chunk.toString('utf8')).split('\n');
    rest = parts.pop() ?? '';
    for (const line of parts) {
      onReport(JSON.parse(line) as DaemonReport);
    }
  }
}
