/**
 * Carries AMQP through the tunnel: a port on loopback for each broker that the hub names, plain here and TLS there.
 *
 * A program that takes results from the broker would otherwise need the authority of the broker itself, and pika has no option for
 * one. Only brokers that the hub has named are dialled.
 */
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { connect } from 'node:tls';

import { systemClock } from '../../base/clock.ts';
import { UnavailableError, errorText } from '../../base/errors.ts';
import { detach, silentLogger } from '../../base/logger.ts';
import {
  certificateRefused,
  isCertificateFailure,
  serverNameFor,
  tlsPeer,
} from '../../transport/tls/certificate-refused.ts';
import type { TlsPeer } from '../../transport/tls/certificate-refused.ts';
import { trustOptions } from '../../transport/tls/trust.ts';

/** Settings of a {@link BrokerForwarder}. */
export interface BrokerForwarderOptions {
  readonly ca?: string;
  /** Called with the failure of a connection, or with undefined after one that stands. */
  readonly onProblem: (message: string | undefined) => void;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** A hub names one broker; more than a few are a mistake of somebody. */
const BROKERS_MAX = 8;
/** One per task group and program. */
const CONNECTIONS_MAX = 256;
const KEEP_ALIVE_MS = 30_000;

/** Forwards AMQP connections. */
export class BrokerForwarder {
  readonly #options: BrokerForwarderOptions;
  readonly #servers = new Map<string, Promise<Server>>();
  readonly #sockets = new Set<Socket>();

  constructor(options: BrokerForwarderOptions) {
    this.#options = options;
  }

  /**
   * The document with the broker's URL replaced by one on this machine; as it is, when it has none for TLS.
   *
   * @throws UnavailableError when no further broker can be forwarded.
   */
  async localDocument(text: string): Promise<string> {
    const document = parseObject(text);
    const url = document?.['connection_url'];
    if (typeof url !== 'string' || !URL.canParse(url) || new URL(url).protocol !== 'amqps:') {
      return text;
    }
    return JSON.stringify({ ...document, connection_url: await this.#localUrl(new URL(url)) });
  }

  /** Ends listening and drops every connection. */
  async stop(): Promise<void> {
    const servers = await Promise.all(this.#servers.values());
    const closed = servers.map(async (server) => {
      const end = once(server, 'close');
      server.close();
      await end;
    });
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    await Promise.all(closed);
  }

  async #localUrl(url: URL): Promise<string> {
    const peer = tlsPeer('the broker', url, 5671);
    const key = `${peer.host} ${peer.port}`;
    if (!this.#servers.has(key)) {
      if (this.#servers.size >= BROKERS_MAX) {
        throw new UnavailableError(
          'BROKER_UNREACHABLE',
          `the hub has named more than ${BROKERS_MAX} brokers; restart hub tunnel`,
        );
      }
      this.#servers.set(key, this.#listen(peer));
    }
    const port = await this.#portOf(key);
    const local = new URL(url);
    local.protocol = 'amqp:';
    local.hostname = '127.0.0.1';
    local.port = String(port);
    // They are about the TLS that is no longer the program's.
    local.searchParams.delete('ssl_options');
    return local.href;
  }

  /** @throws UnavailableError START_FAILED; the next request tries again. */
  async #portOf(key: string): Promise<number> {
    try {
      const server = await this.#servers.get(key);
      return (server?.address() as AddressInfo).port;
    } catch (error) {
      this.#servers.delete(key);
      throw new UnavailableError(
        'START_FAILED',
        `the tunnel cannot listen for the broker: ${errorText(error)}`,
        { cause: error },
      );
    }
  }

  async #listen(peer: TlsPeer): Promise<Server> {
    const server = createServer((socket) => {
      this.#carry(socket, peer);
    });
    server.maxConnections = CONNECTIONS_MAX;
    server.listen({ host: '127.0.0.1', port: 0 });
    await once(server, 'listening');
    return server;
  }

  /** The client speaks first in AMQP; what it says waits in the kernel until the other side stands. */
  #carry(local: Socket, peer: TlsPeer): void {
    const remote = connect({
      host: peer.host,
      port: peer.port,
      ...serverNameFor(peer.host),
      ...trustOptions(this.#options.ca),
    });
    for (const socket of [local, remote]) {
      socket.setNoDelay(true);
      // AMQP's heartbeats are the programs' choice; this notices a machine that is gone all the same.
      socket.setKeepAlive(true, KEEP_ALIVE_MS);
      this.#sockets.add(socket);
      socket.once('close', () => {
        this.#sockets.delete(socket);
        // What one side said last still reaches the other.
        local.destroySoon();
        remote.destroySoon();
      });
    }
    const timer = systemClock.after(CONNECT_TIMEOUT_MS, () => {
      const what = `did not take a connection within ${CONNECT_TIMEOUT_MS / 1000} s`;
      remote.destroy(new UnavailableError('TIMED_OUT', what));
    });
    let isConnected = false;
    local.on('error', () => {
      remote.destroy();
    });
    remote.on('error', (error: Error) => {
      local.destroy();
      if (!isConnected) {
        detach(silentLogger, 'explaining a failed connection', this.#explain(peer, error));
      }
    });
    remote.once('close', () => {
      timer.cancel();
    });
    remote.once('secureConnect', () => {
      isConnected = true;
      timer.cancel();
      this.#options.onProblem(undefined);
      local.pipe(remote).pipe(local);
    });
  }

  async #explain(peer: TlsPeer, error: Error): Promise<void> {
    const failure = isCertificateFailure(error) ? await certificateRefused(peer, error) : error;
    this.#options.onProblem(
      `results cannot be had from the broker at ${peer.host}:${peer.port}: ${errorText(failure)}`,
    );
  }
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    // Not ours to judge: it is passed on as it came.
    return undefined;
  }
}
