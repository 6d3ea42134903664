/**
 * One connection to the broker, from the dial to the end of its socket. Keeping one alive is session.ts.
 *
 * K1 A dial is bounded as a whole: name lookup, TCP, TLS and the AMQP handshake. A server that accepts and is silent, or
 *    drips bytes, cannot hang it.
 * K2 `closed` resolves once, whatever ended the connection, including missed heartbeats (heartbeats.ts notices a silent peer after
 *    two intervals).
 *    One gap is amqplib's: an error other than 320 that the broker sends in the same packet as open-ok is emitted before
 *    anybody can listen. No broker is known to do that.
 * K3 After `close()` nothing is alive: no channel, timer or socket. It takes at most CLOSE_MS_MAX, and what was sent on the
 *    channels before (acks!) goes out first.
 * K4 noDelay on every socket: with Nagle's algorithm an idle round trip takes 43 ms instead of 0.5 ms.
 */
import { Socket } from 'node:net';

import type { Channel, ChannelModel } from 'amqplib';
import { IllegalOperationError, connect } from 'amqplib';

import { systemClock } from '../../base/clock.ts';
import { withDeadline } from '../../base/deadline.ts';
import {
  AuthError,
  ComputeError,
  ConflictError,
  UnavailableError,
  errorCode,
  errorText,
  invariant,
} from '../../base/errors.ts';
import { certificateRefused, isCertificateFailure, isNoTls } from '../tls/certificate-refused.ts';
import { trustOptions } from '../tls/trust.ts';
import type { BrokerAddress } from './broker-address.ts';
import { parseBrokerUrl } from './broker-address.ts';
import type { ConnectionClosed } from './channel-life.ts';
import { ChannelLife, describeEnd, replyCode } from './channel-life.ts';
import type { AmqpConsumer, ConsumerOptions } from './consumer.ts';
import { startConsumer } from './consumer.ts';
import { joinHeartbeats } from './heartbeats.ts';
import { joinWrites } from './joined-writes.ts';
import type { ConfirmPublisher } from './publisher.ts';
import { ChannelPublisher } from './publisher.ts';

export type { ConnectionClosed } from './channel-life.ts';

const CALLED_OFF = 'the attempt was called off';
const CONNECT_TIMEOUT_MS = 10_000;
/** The broker sends one each half of it, and each wakes an idle agent. Silence of two intervals ends the connection. */
const HEARTBEAT_S = 15;
/** Longest time that `close` takes; then the socket is dropped. */
const CLOSE_MS_MAX = 2_000;
/** How long a socket may flush our answer to a close by the broker. */
const SOCKET_FLUSH_MS_MAX = 1_000;
const CHANNEL_OPEN_MS_MAX = 10_000;
const CHANNEL_USE_MS_MAX = 60_000;

/** Where and how to dial. */
export interface AmqpDialOptions {
  /** amqp:// or amqps://, user, password and virtual host percent-encoded. */
  readonly url: string;
  /** Shown by the broker's management. */
  readonly connectionName: string;
  /** For the whole handshake. Default 10 s. */
  readonly connectTimeoutMs?: number;
  /** Default 15 s; the broker may lower it. 0 turns heartbeats off. */
  readonly heartbeatS?: number;
  /** Authorities that are trusted beside the system's (PEM). */
  readonly ca?: string;
  /** Calls the dial off; without effect on a connection that stands. */
  readonly signal?: AbortSignal;
}

/** A connection that stands. */
export interface AmqpConnection {
  /** Resolves (never rejects) once, when the connection has ended for whatever reason. */
  readonly closed: Promise<ConnectionClosed>;
  /** Calls back when the broker stops (true) or resumes (false) reading what we publish; at once if it has stopped. */
  onBlocked: (listener: (blocked: boolean, reason: string) => void) => void;
  /** Channel in confirm mode. @throws UnavailableError CHANNEL_CLOSED, TIMED_OUT. */
  openPublisher: () => Promise<ConfirmPublisher>;
  /** @throws UnavailableError CHANNEL_CLOSED (details.replyCode), TIMED_OUT. */
  openConsumer: (options: ConsumerOptions) => Promise<AmqpConsumer>;
  /**
   * Plain channel for declaring; for the hub's topology and tests. `timeoutMs` bounds the use as a whole, default 60 s.
   *
   * @throws ConflictError PRECONDITION_FAILED when something exists with other properties (406), UnavailableError
   * CHANNEL_CLOSED (details.replyCode: 404 not there, 403 not allowed), TIMED_OUT; else what `use` throws.
   */
  withChannel: <T>(
    use: (channel: Channel) => Promise<T>,
    options?: { readonly timeoutMs?: number },
  ) => Promise<T>;
  /** Sends what was written, then closes. At most 2 s, idempotent, never rejects. */
  close: () => Promise<void>;
  /** Drops the socket now. */
  destroy: () => void;
}

/**
 * One attempt to connect.
 *
 * @throws AuthError TOKEN_REJECTED when the broker refuses the credentials; UnavailableError CERTIFICATE_REFUSED when we refuse its
 * certificate, BROKER_UNREACHABLE otherwise.
 */
export async function dialAmqp(options: AmqpDialOptions): Promise<AmqpConnection> {
  const address = parseBrokerUrl(options.url);
  const limitMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
  if (options.signal?.aborted === true) {
    // Node connects a socket whose signal has been aborted before, and never closes it.
    throw unreachable(address, CALLED_OFF, undefined);
  }
  // Destroys the socket in whatever stage of the handshake it is (K1).
  const abort = new AbortController();
  const cancel = (): void => {
    abort.abort(unreachable(address, CALLED_OFF, undefined));
  };
  const timer = systemClock.after(limitMs, () => {
    const what = `no complete answer within ${limitMs} ms; check that the port is the broker's AMQP port`;
    abort.abort(unreachable(address, what, undefined));
  });
  options.signal?.addEventListener('abort', cancel, { once: true });
  const socketOptions = {
    noDelay: true,
    clientProperties: { connection_name: options.connectionName },
    signal: abort.signal,
    ...trustOptions(options.ca),
  };
  try {
    const model = await connect(
      { ...address.connect, heartbeat: options.heartbeatS ?? HEARTBEAT_S },
      socketOptions,
    );
    return new BrokerConnection(model, address);
  } catch (error) {
    if (abort.signal.aborted) {
      throw abort.signal.reason as Error;
    }
    const { hostname: host, port } = address.connect;
    if (isCertificateFailure(error) && host !== undefined && port !== undefined) {
      throw await certificateRefused({ serverName: 'the broker', host, port }, error);
    }
    throw dialFailure(address, error);
  } finally {
    timer.cancel();
    options.signal?.removeEventListener('abort', cancel);
  }
}

/**
 * What a failed handshake means. amqplib gives these two refusals no code, only a text.
 *
 * A socket that is closed without a word is no refusal: since we announce `authentication_failure_close`, RabbitMQ always
 * says so; silence is a broker that is going down, or a proxy without one.
 */
function dialFailure(address: BrokerAddress, error: unknown): ComputeError {
  const text = errorText(error);
  const code = /^Handshake terminated by server: (\d+) /.exec(text)?.[1];
  if (code === '403') {
    return new AuthError(
      'TOKEN_REJECTED',
      `the broker at ${address.label} refused the credentials of user "${address.user}"; an endpoint gets new ones by registering again`,
      { cause: error, details: { broker: address.label, user: address.user, replyCode: 403 } },
    );
  }
  if (text.startsWith('Expected ConnectionOpenOk; got <ConnectionClose')) {
    return new AuthError(
      'TOKEN_REJECTED',
      `the broker at ${address.label} does not let user "${address.user}" open the virtual host "${address.vhost}": it has no ` +
        'permission there, the virtual host is missing or down, or a limit of connections is reached',
      { cause: error, details: { broker: address.label, user: address.user } },
    );
  }
  const advice = isNoTls(error)
    ? '; what listens there speaks no TLS: is that the port for amqps?'
    : '';
  return unreachable(address, `${text}${advice}`, error);
}

function unreachable(address: BrokerAddress, what: string, cause: unknown): UnavailableError {
  const code = errorCode(cause);
  return new UnavailableError(
    'BROKER_UNREACHABLE',
    `cannot connect to the broker at ${address.label}: ${what}`,
    {
      cause,
      details: { broker: address.label, ...(code === undefined ? {} : { reason: code }) },
    },
  );
}

/** The socket under amqplib's connection, which has no name for it in its types. */
function socketOf(model: ChannelModel): Socket {
  const { stream } = model.connection as unknown as { stream: unknown };
  invariant(stream instanceof Socket, 'amqplib keeps its socket elsewhere than it did');
  return stream;
}

class BrokerConnection implements AmqpConnection {
  readonly closed: Promise<ConnectionClosed>;
  readonly #model: ChannelModel;
  readonly #socket: Socket;
  readonly #socketClosed: Promise<void>;
  readonly #address: BrokerAddress;
  /** Channels that `close` has to close first (K3). */
  readonly #channels = new Set<{ close: () => Promise<void> }>();
  readonly #blockedListeners: ((blocked: boolean, reason: string) => void)[] = [];
  #blockedReason: string | undefined;
  #isLocal = false;
  #error: Error | undefined;
  #end: ConnectionClosed | undefined;
  #settleClosed: (closed: ConnectionClosed) => void = () => undefined;
  #closing: Promise<void> | undefined;

  constructor(model: ChannelModel, address: BrokerAddress) {
    this.#model = model;
    this.#address = address;
    this.#socket = socketOf(model);
    joinWrites(this.#socket);
    joinHeartbeats(model.connection, this.#socket);
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
    this.#socketClosed = new Promise((resolve) => {
      this.#socket.once('close', () => {
        resolve();
      });
    });
    model.on('error', (error: Error) => {
      this.#error ??= error;
    });
    model.once('close', (error?: Error) => {
      this.#onClose(error ?? this.#error);
    });
    model.on('blocked', (reason: string) => {
      this.#onBlocked(true, reason);
    });
    model.on('unblocked', () => {
      this.#onBlocked(false, '');
    });
    if (this.#socket.destroyed || this.#socket.writableEnded) {
      // It ended in the turn in which it opened, before anybody listened.
      this.#onClose(this.#socket.errored ?? undefined);
    }
  }

  onBlocked(listener: (blocked: boolean, reason: string) => void): void {
    this.#blockedListeners.push(listener);
    if (this.#blockedReason !== undefined) {
      listener(true, this.#blockedReason);
    }
  }

  async openPublisher(): Promise<ConfirmPublisher> {
    const { channel, life } = await this.#openChannel(
      async () => await this.#model.createConfirmChannel(),
    );
    const publisher = new ChannelPublisher(channel, life);
    this.#track(publisher, life);
    return publisher;
  }

  async openConsumer(options: ConsumerOptions): Promise<AmqpConsumer> {
    const { channel, life } = await this.#openChannel(
      async () => await this.#model.createChannel(),
    );
    const consumer = await startConsumer(channel, life, options);
    this.#track(consumer, life);
    return consumer;
  }

  async withChannel<T>(
    use: (channel: Channel) => Promise<T>,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<T> {
    const { channel, life } = await this.#openChannel(
      async () => await this.#model.createChannel(),
    );
    this.#track(life, life);
    const limitMs = options.timeoutMs ?? CHANNEL_USE_MS_MAX;
    try {
      return await withDeadline(
        systemClock,
        limitMs,
        use(channel),
        () =>
          new UnavailableError(
            'TIMED_OUT',
            `the broker at ${this.#address.label} did not finish within ${limitMs} ms`,
          ),
      );
    } catch (error) {
      throw this.#channelFailure(life, error);
    } finally {
      await life.close();
    }
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  destroy(): void {
    this.#isLocal = true;
    // With an error, because amqplib does not listen for the bare end of its socket.
    this.#socket.destroy(new UnavailableError('CHANNEL_CLOSED', 'dropped by this side'));
  }

  async #close(): Promise<void> {
    this.#isLocal = true;
    try {
      await withDeadline(
        systemClock,
        CLOSE_MS_MAX,
        this.#closePolitely(),
        () => new UnavailableError('TIMED_OUT', 'the broker did not answer connection.close'),
      );
    } catch {
      // Whatever hangs hangs on the socket.
      this.destroy();
      await this.#socketClosed;
    }
  }

  async #closePolitely(): Promise<void> {
    // A broker that blocks us reads nothing, so it answers nothing.
    if (this.#end === undefined && this.#blockedReason === undefined) {
      // connection.close would overtake what waits in the channels' buffers.
      await Promise.all(
        [...this.#channels].map(async (channel) => {
          await channel.close();
        }),
      );
    }
    if (this.#end === undefined) {
      // Not awaited: its promise stays pending if the socket ends first. A rejection says that it ended meanwhile.
      this.#model.close().catch(() => undefined);
      await this.closed;
    }
    await this.#socketClosed;
  }

  #onClose(error: Error | undefined): void {
    if (this.#end !== undefined) {
      return;
    }
    this.#end = this.#isLocal
      ? { reason: 'closed by this side', kind: 'local' }
      : describeEnd(error);
    this.#blockedListeners.length = 0;
    this.#shutSocket(replyCode(error) !== undefined);
    this.#settleClosed(this.#end);
  }

  /** amqplib only half-closes the socket, which a silent peer never answers (K2, K3). */
  #shutSocket(isFlushing: boolean): void {
    const socket = this.#socket;
    if (!isFlushing || socket.writableFinished || socket.destroyed) {
      socket.destroy();
      return;
    }
    const drop = (): void => {
      socket.destroy();
    };
    const timer = systemClock.after(SOCKET_FLUSH_MS_MAX, drop, { background: true });
    socket.once('finish', drop);
    socket.once('close', () => {
      timer.cancel();
    });
  }

  #onBlocked(blocked: boolean, reason: string): void {
    this.#blockedReason = blocked ? reason : undefined;
    for (const listener of this.#blockedListeners) {
      listener(blocked, reason);
    }
  }

  async #openChannel<C extends Channel>(
    open: () => Promise<C>,
  ): Promise<{ channel: C; life: ChannelLife }> {
    const opening = open().then((channel) => ({
      channel,
      life: new ChannelLife(channel, () => this.#end),
    }));
    try {
      return await withDeadline(
        systemClock,
        CHANNEL_OPEN_MS_MAX,
        opening,
        () =>
          new UnavailableError(
            'TIMED_OUT',
            `the broker at ${this.#address.label} did not open a channel within ${CHANNEL_OPEN_MS_MAX} ms`,
          ),
      );
    } catch (error) {
      throw error instanceof ComputeError ? error : this.#channelClosed(error);
    }
  }

  #track(channel: { close: () => Promise<void> }, life: ChannelLife): void {
    this.#channels.add(channel);
    life.ended.then(
      () => this.#channels.delete(channel),
      () => undefined,
    );
  }

  /** Translates what amqplib threw on a channel; anything else was thrown by its user and passes. */
  #channelFailure(life: ChannelLife, error: unknown): unknown {
    if (error instanceof ComputeError) {
      return error;
    }
    const cause = replyCode(error) === undefined ? (life.error ?? error) : error;
    if (replyCode(cause) === 406) {
      return new ConflictError(
        'PRECONDITION_FAILED',
        `the broker has this already, with other properties: ${errorText(cause)}; delete the old one, or declare it as it is`,
        { cause, details: { replyCode: 406 } },
      );
    }
    const isAmqp =
      replyCode(cause) !== undefined || life.hasEnded() || error instanceof IllegalOperationError;
    return isAmqp ? this.#channelClosed(cause) : error;
  }

  #channelClosed(cause: unknown): UnavailableError {
    const code = replyCode(cause);
    const why = this.#end === undefined ? errorText(cause) : this.#end.reason;
    return new UnavailableError(
      'CHANNEL_CLOSED',
      `the broker at ${this.#address.label} closed the channel: ${why}`,
      { cause, details: code === undefined ? {} : { replyCode: code } },
    );
  }
}
