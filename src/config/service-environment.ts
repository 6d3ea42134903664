/**
 * What a service manager tells a service through its environment: where to send notifications, how often it wants a sign of life,
 * which directories it made. Read here once and handed down; none of it reaches a worker or a background process.
 */
import type { Environment } from './config-sources.ts';

/** Variables of the notification protocol (sd_notify(3)): they are meant for this very process. */
export const NOTIFICATION_VARIABLES: readonly string[] = [
  'NOTIFY_SOCKET',
  'WATCHDOG_USEC',
  'WATCHDOG_PID',
];

/** Where an agent and a worker host that is a unit of its own meet, unless OUTPOST_WORKER_DIR says otherwise (tmpfiles.d). */
const WORKER_DIRECTORY = '/run/outpost-worker';

/** Directory of the system for the sockets of agents that are system services; each has one of its own in it. */
const SERVICE_RUNTIME_DIRECTORY = '/run/outpost';

/** How the service manager wants to be kept informed. */
export interface ServiceNotification {
  /** Path of the socket; an abstract one begins with @. */
  readonly socket: string;
  /** Longest time between two signs of life; undefined means that none are wanted. */
  readonly watchdogMs?: number;
}

/** What the service manager of this process asked for, or undefined when it is no such service. */
export function serviceNotification(
  environment: Environment,
  pid: number = process.pid,
): ServiceNotification | undefined {
  const socket = environment['NOTIFY_SOCKET'] ?? '';
  if (!/^[@/]./.test(socket)) {
    return undefined;
  }
  const microseconds = Number(environment['WATCHDOG_USEC'] ?? '');
  const forPid = environment['WATCHDOG_PID'] ?? '';
  // A watchdog that was meant for a parent of ours is none of our business.
  const isOurs = forPid === '' || forPid === String(pid);
  return isOurs && microseconds > 0 ? { socket, watchdogMs: microseconds / 1000 } : { socket };
}

/** Directory of the socket on which an agent waits for a worker host that is a unit of its own. */
export function workerSocketDirectory(environment: Environment): string {
  const directory = environment['OUTPOST_WORKER_DIR'] ?? '';
  return directory === '' ? WORKER_DIRECTORY : directory;
}

/** Where the control socket of an endpoint lies when its agent is a system service (RuntimeDirectory= of agent@.service). */
export function serviceRuntimeDirectory(name: string): string {
  return `${SERVICE_RUNTIME_DIRECTORY}/${name}`;
}

/** Directory that the service manager made for the state of this service, if it did. */
export function serviceStateDirectory(environment: Environment): string | undefined {
  const [first = ''] = (environment['STATE_DIRECTORY'] ?? '').split(':');
  return first === '' ? undefined : first;
}
