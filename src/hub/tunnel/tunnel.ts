/**
 * A hub elsewhere, on this machine's own `localhost`: for programs that know no other address, as the unmodified Globus SDK, which
 * knows http://localhost:5000 only.
 *
 *   program ─ http ─▶ 127.0.0.1:5000 ─┐            ┌─ https ─▶ hub
 *   program ─ amqp ─▶ 127.0.0.1:…    ─┤ hub tunnel ├─ amqps ─▶ broker
 *                                     └────────────┘
 *
 * T1 What leaves the machine is TLS, and verified: plain http is taken to a hub on this machine only.
 * T2 The tunnel adds no rights: credentials pass through it, it has none of its own, and it listens on loopback only.
 * T3 Nothing is stored: bodies are streamed, and everything has a bound in number and in time.
 * T4 After `stop` nothing listens and no connection is left.
 */
import { ReleaseStack } from '../../base/release-stack.ts';
import { parseServerUrl } from '../../transport/http/secure-url.ts';
import { Listeners } from '../http/listeners.ts';
import { BrokerForwarder } from './broker-forwarder.ts';
import { RequestForwarder } from './request-forwarder.ts';

/** Settings of a {@link Tunnel}. */
export interface TunnelOptions {
  /** The hub elsewhere. */
  readonly hubUrl: string;
  /** Port on loopback; 0: any free one. */
  readonly port: number;
  /** Authorities that are trusted beside the system's (PEM). */
  readonly ca?: string;
  /** Told what went wrong on the far side, in words, once per kind of failure until it works again. */
  readonly onProblem: (message: string) => void;
}

/** Serves a hub elsewhere on loopback. @throws ConfigError when the URL is not acceptable. */
export class Tunnel {
  readonly #options: TunnelOptions;
  readonly #hub: URL;
  readonly #stack = new ReleaseStack();

  constructor(options: TunnelOptions) {
    this.#options = options;
    this.#hub = parseServerUrl(options.hubUrl, 'URL of the hub');
  }

  /** Listens, and returns the port. @throws UnavailableError PORT_IN_USE. */
  async start(): Promise<number> {
    const { port, ca, onProblem } = this.#options;
    const trust = ca === undefined ? {} : { ca };
    // One each: the hub that answers says nothing about the broker.
    const broker = new BrokerForwarder({ ...trust, onProblem: once(onProblem) });
    this.#stack.push('broker connections', async () => {
      await broker.stop();
    });
    const requests = new RequestForwarder({
      hub: this.#hub,
      broker,
      onProblem: once(onProblem),
      ...trust,
    });
    this.#stack.push('connections to the hub', () => {
      requests.stop();
    });
    const listeners = await Listeners.open(
      (request, response) => {
        requests.forward(request, response);
      },
      { host: 'localhost', port, portSetting: '--port' },
    );
    this.#stack.push('listeners', async () => {
      await listeners.close();
    });
    return listeners.port;
  }

  /** Ends listening and every connection; requests that run get a few seconds. */
  async stop(): Promise<void> {
    await this.#stack.release();
  }
}

/** A program that tries again every second would fill the terminal. */
function once(onProblem: (message: string) => void): (message: string | undefined) => void {
  let last: string | undefined;
  return (message) => {
    if (message !== undefined && message !== last) {
      onProblem(message);
    }
    last = message;
  };
}
