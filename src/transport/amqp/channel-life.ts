/**
 * The life of one AMQP channel: one promise that says when and why it ended, and a close that cannot hang.
 *
 *   open ──close()──▶ closing ──▶ ended (local)
 *     └──── channel.close of the broker, loss of the connection ────▶ ended (channel | connection)
 *
 * Every channel gets one of these at the moment it exists, so that its `error` event always has a listener: without one
 * a refusal by the broker would end the process.
 */
import type { Channel } from 'amqplib';

import { systemClock } from '../../base/clock.ts';
import { withDeadline } from '../../base/deadline.ts';
import { UnavailableError } from '../../base/errors.ts';

/** Longest time that closing a channel politely may take; the connection is closed under it if it takes longer. */
const CHANNEL_CLOSE_MS_MAX = 2_000;

const ACCESS_REFUSED = 403;
const CONNECTION_FORCED = 320;

/**
 * How a connection, or a channel of it, ended.
 *
 *   local     we closed it
 *   refused   the broker says that we may not (403): on a connection the credentials, on a channel a permission
 *   lost      the socket ended, heartbeats stopped, or the broker's operator closed the connection (320)
 *   error     the broker closed it for another reason, which is in `code`
 */
export interface ConnectionClosed {
  readonly reason: string;
  readonly kind: 'local' | 'lost' | 'refused' | 'error';
  readonly error?: Error;
  /** AMQP reply code, when the broker gave one. */
  readonly code?: number;
}

/** The end of a channel, and what ended. */
export interface ChannelEnd {
  readonly by: 'local' | 'channel' | 'connection';
  readonly closed: ConnectionClosed;
}

/** The numeric reply code of an error that amqplib made from a close method of the broker. */
export function replyCode(error: unknown): number | undefined {
  if (typeof error === 'object' && error !== null && 'code' in error) {
    return typeof error.code === 'number' ? error.code : undefined;
  }
  return undefined;
}

/** Describes an end that we did not ask for. */
export function describeEnd(error: Error | undefined): ConnectionClosed {
  if (error === undefined) {
    return { reason: 'the broker closed the connection', kind: 'lost' };
  }
  const code = replyCode(error);
  if (code === undefined) {
    return { reason: error.message, kind: 'lost', error };
  }
  const kind = code === ACCESS_REFUSED ? 'refused' : code === CONNECTION_FORCED ? 'lost' : 'error';
  return { reason: error.message, kind, error, code };
}

/** Watches one channel until it has ended. */
export class ChannelLife {
  /** Resolves (never rejects) once the channel has ended. */
  readonly ended: Promise<ChannelEnd>;
  readonly #channel: Channel;
  #phase: 'open' | 'closing' | 'ended' = 'open';
  #error: Error | undefined;

  /** `connectionEnd` tells how the connection ended, if it has. */
  constructor(channel: Channel, connectionEnd: () => ConnectionClosed | undefined) {
    this.#channel = channel;
    this.ended = new Promise((resolve) => {
      channel.on('error', (error: Error) => {
        this.#error ??= error;
      });
      // Before amqplib's own listener, which fails the unconfirmed publishes: they ask `hasEnded`.
      channel.prependOnceListener('close', () => {
        const isLocal = this.#phase === 'closing' && this.#error === undefined;
        this.#phase = 'ended';
        // amqplib ends the channels just before it reports the end of their connection, in the same turn.
        queueMicrotask(() => {
          resolve(this.#describe(isLocal, connectionEnd()));
        });
      });
    });
  }

  /** Whether frames may be sent. */
  isOpen(): boolean {
    return this.#phase === 'open';
  }

  hasEnded(): boolean {
    return this.#phase === 'ended';
  }

  /** What the broker said when it closed the channel, if it did. */
  get error(): Error | undefined {
    return this.#error;
  }

  /** Closes the channel behind everything that was sent on it. Bounded, idempotent, never rejects. */
  async close(): Promise<void> {
    if (this.#phase === 'open') {
      this.#phase = 'closing';
      // A rejection says that it ended meanwhile, which is what was asked for; `ended` tells.
      this.#channel.close().catch(() => undefined);
    }
    try {
      await withDeadline(
        systemClock,
        CHANNEL_CLOSE_MS_MAX,
        this.ended,
        () => new UnavailableError('TIMED_OUT', 'the broker did not answer channel.close'),
      );
    } catch {
      // Not answered: the channel sends nothing any more, and ends with its connection.
    }
  }

  #describe(isLocal: boolean, connection: ConnectionClosed | undefined): ChannelEnd {
    if (this.#error !== undefined) {
      return { by: 'channel', closed: describeEnd(this.#error) };
    }
    if (isLocal || connection?.kind === 'local') {
      return { by: 'local', closed: { reason: 'closed by this side', kind: 'local' } };
    }
    return { by: 'connection', closed: connection ?? describeEnd(undefined) };
  }
}
