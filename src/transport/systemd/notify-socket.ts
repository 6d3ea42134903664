/**
 * Datagrams to a service manager, as sd_notify(3) defines them: `NAME=value` lines to the socket that NOTIFY_SOCKET names.
 *
 * They leave from this process, so that `NotifyAccess=main` is enough. The addon is loaded only when there is somebody to notify.
 * It cannot reach an abstract address (a name with @), which no systemd uses for services; for other supervisors `systemd-notify`
 * is run instead. A notification that is lost does no harm to the service itself: it is logged once.
 */
import { execFile } from 'node:child_process';

import type { Logger } from '../../base/logger.ts';

/** Lines of one notification, by name. */
export type NotificationFields = Readonly<Record<string, string | number>>;

/** A way to the service manager. */
export interface NotifySocket {
  readonly send: (fields: NotificationFields) => void;
  readonly close: () => void;
}

/** Opens the way to the socket that NOTIFY_SOCKET names. */
export async function openNotifySocket(address: string, logger: Logger): Promise<NotifySocket> {
  let hasFailed = false;
  const onSent = (error: Error | null | undefined): void => {
    if (error !== null && error !== undefined && !hasFailed) {
      hasFailed = true;
      logger.warn({ address, err: error }, 'the service manager cannot be notified');
    }
  };
  if (address.startsWith('@')) {
    return {
      send: (fields) => {
        const env = { NOTIFY_SOCKET: address, PATH: '/usr/bin:/bin' };
        execFile('systemd-notify', [`--pid=${process.pid}`, ...linesOf(fields)], { env }, onSent);
      },
      close: () => undefined,
    };
  }
  const unix = await import('node-unix-socket');
  const socket = new unix.DgramSocket();
  socket.on('error', onSent);
  return {
    send: (fields) => {
      const bytes = Buffer.from(linesOf(fields).join('\n'));
      try {
        socket.sendTo(bytes, 0, bytes.length, address, onSent);
      } catch (error) {
        // After an error the socket closes itself and throws from then on.
        onSent(error instanceof Error ? error : undefined);
      }
    },
    close: () => {
      socket.close();
    },
  };
}

/** A line break in a value would begin another field. */
function linesOf(fields: NotificationFields): string[] {
  return Object.entries(fields).map(
    ([name, value]) => `${name}=${String(value).replaceAll(/\s+/g, ' ')}`,
  );
}
