/**
 * Passes requests on to the hub and its answers back: method, path, headers and bodies as they are, streamed both ways.
 *
 * What cannot be passed on is answered with an error document like the hub's own, so that clients show its text. One answer is
 * changed: the broker that results come from is reached through the tunnel too.
 */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import type {
  ClientRequest,
  IncomingMessage,
  OutgoingHttpHeaders,
  ServerResponse,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { pipeline } from 'node:stream';

import { systemClock } from '../../base/clock.ts';
import { ProtocolError, UnavailableError, errorCode, errorText } from '../../base/errors.ts';
import type { ComputeError } from '../../base/errors.ts';
import {
  certificateRefused,
  isCertificateFailure,
  isNoTls,
  tlsPeer,
} from '../../transport/tls/certificate-refused.ts';
import { trustOptions } from '../../transport/tls/trust.ts';
import { errorDocument } from '../http/error-documents.ts';
import type { BrokerForwarder } from './broker-forwarder.ts';

/** Settings of a {@link RequestForwarder}. */
export interface RequestForwarderOptions {
  readonly hub: URL;
  readonly broker: BrokerForwarder;
  readonly ca?: string;
  /** Called with the failure of a request, or with undefined after one that got an answer. */
  readonly onProblem: (message: string | undefined) => void;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** Longest silence while an answer is waited for or arrives. */
const SILENCE_MS_MAX = 120_000;
/** Connections to the hub; requests beyond wait. */
const CONNECTIONS_MAX = 64;
/** Requests that run or wait; those beyond are refused. */
const REQUESTS_MAX = 1024;
/** Idle connections are closed before the hub does it, so that a request does not meet one that just was. */
const IDLE_MS = 4000;
/** The one document that is changed has a few hundred bytes. */
const DOCUMENT_BYTES_MAX = 64 * 1024;

/** They concern one connection and not the message (RFC 9110 7.6.1). */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
const RESULT_CONNECTION = /^\/v2\/get_amqp_result_connection_url\/?(?:\?|$)/;

/** Passes requests on to one hub. */
export class RequestForwarder {
  readonly #options: RequestForwarderOptions;
  readonly #agent: HttpAgent;
  readonly #base: string;
  #requestCount = 0;

  constructor(options: RequestForwarderOptions) {
    this.#options = options;
    this.#base = options.hub.pathname.replace(/\/+$/, '');
    const pool = { keepAlive: true, maxSockets: CONNECTIONS_MAX, timeout: IDLE_MS };
    this.#agent =
      options.hub.protocol === 'https:'
        ? new HttpsAgent({ ...pool, ...trustOptions(options.ca) })
        : new HttpAgent(pool);
  }

  /** Passes a request on; answers it in any case. */
  forward(request: IncomingMessage, response: ServerResponse): void {
    if (this.#requestCount >= REQUESTS_MAX) {
      const busy = `more than ${REQUESTS_MAX} requests are under way in the tunnel; try again`;
      refuse(request, response, 503, 'RATE_LIMITED', busy);
      return;
    }
    if (request.url?.startsWith('/') !== true) {
      refuse(request, response, 400, 'REQUEST_MALFORMED', 'the request target must be a path');
      return;
    }
    this.#requestCount += 1;
    response.once('close', () => {
      this.#requestCount -= 1;
    });
    this.#send(request, response, request.url);
  }

  /** Drops the connections to the hub. */
  stop(): void {
    this.#agent.destroy();
  }

  #send(request: IncomingMessage, response: ServerResponse, path: string): void {
    const { hub } = this.#options;
    const isChanged = request.method === 'GET' && RESULT_CONNECTION.test(path);
    const send = hub.protocol === 'https:' ? httpsRequest : httpRequest;
    const outgoing = send(new URL(hub.origin), {
      method: request.method,
      path: this.#base + path,
      headers: this.#requestHeaders(request, isChanged),
      agent: this.#agent,
      setHost: false,
      timeout: SILENCE_MS_MAX,
    });
    bound(outgoing, hub.origin);
    outgoing.on('response', (incoming) => {
      this.#options.onProblem(undefined);
      if (isChanged && incoming.statusCode === 200) {
        this.#answerResultConnection(incoming, response);
        return;
      }
      response.writeHead(incoming.statusCode ?? 502, responseHeaders(incoming));
      pipeline(incoming, response, (error) => {
        if (error) {
          // The status has been sent: breaking off is the only way left to say that the answer is not whole.
          response.destroy();
          outgoing.destroy();
        }
      });
    });
    outgoing.on('error', (error) => {
      request.unpipe(outgoing);
      this.#fail(request, response, error);
    });
    response.once('close', () => {
      // Whoever asked has gone, or has the answer.
      if (!response.writableFinished) {
        outgoing.destroy();
      }
    });
    // No pipeline: it would take the connection of the client down with that of the hub, and with it the answer.
    request.pipe(outgoing);
  }

  #requestHeaders(request: IncomingMessage, isChanged: boolean): OutgoingHttpHeaders {
    const headers = endToEndHeaders(request);
    // The listener has told the client to go on already.
    delete headers.expect;
    headers.host = this.#options.hub.host;
    if (request.headers['transfer-encoding'] !== undefined) {
      headers['transfer-encoding'] = 'chunked';
    }
    if (isChanged) {
      headers['accept-encoding'] = 'identity';
    }
    return headers;
  }

  #answerResultConnection(incoming: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    let bytes = 0;
    incoming.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > DOCUMENT_BYTES_MAX) {
        incoming.destroy(new ProtocolError('PAYLOAD_TOO_LARGE', 'the answer is too large'));
      }
    });
    incoming.on('error', () => {
      response.destroy();
    });
    incoming.once('end', () => {
      const headers = responseHeaders(incoming);
      this.#options.broker.localDocument(Buffer.concat(chunks).toString('utf8')).then(
        (body) => {
          headers['content-length'] = Buffer.byteLength(body);
          response.writeHead(200, headers).end(body);
        },
        (error: unknown) => {
          refuse(incoming, response, 502, 'BROKER_UNREACHABLE', errorText(error));
        },
      );
    });
  }

  #fail(request: IncomingMessage, response: ServerResponse, error: Error): void {
    if (response.destroyed) {
      return;
    }
    if (response.headersSent) {
      response.destroy();
      return;
    }
    explain(this.#options.hub, error).then(
      (failure) => {
        this.#options.onProblem(failure.message);
        const status = failure.code === 'TIMED_OUT' ? 504 : 502;
        refuse(request, response, status, failure.code, failure.message);
      },
      () => {
        response.destroy();
      },
    );
  }
}

/** Limits the time to connect and the silence afterwards. */
function bound(outgoing: ClientRequest, origin: string): void {
  const late = (what: string): void => {
    const message = `the hub at ${origin} ${what}; check its load and the network in between, then try again`;
    outgoing.destroy(new UnavailableError('TIMED_OUT', message));
  };
  outgoing.once('timeout', () => {
    late(`was silent for ${SILENCE_MS_MAX / 1000} s`);
  });
  outgoing.once('socket', (socket) => {
    if (!socket.connecting) {
      return;
    }
    const timer = systemClock.after(CONNECT_TIMEOUT_MS, () => {
      late(`did not take a connection within ${CONNECT_TIMEOUT_MS / 1000} s`);
    });
    for (const event of ['secureConnect', 'close', ...('encrypted' in socket ? [] : ['connect'])]) {
      socket.once(event, () => {
        timer.cancel();
      });
    }
  });
}

/** Why the hub could not be asked, and what to do. */
async function explain(hub: URL, error: Error): Promise<ComputeError> {
  if (error instanceof UnavailableError) {
    return error;
  }
  if (isCertificateFailure(error)) {
    return await certificateRefused(tlsPeer('the hub', hub, 443), error);
  }
  const code = errorCode(error) ?? '';
  const advice = isNoTls(error)
    ? 'What listens there speaks no TLS: check the URL that the tunnel was given.'
    : ['ENOTFOUND', 'EAI_AGAIN'].includes(code)
      ? 'Check the name in the URL that the tunnel was given, and that this machine is online.'
      : 'Check that it runs, and that this machine may connect to it.';
  return new UnavailableError(
    'HUB_UNREACHABLE',
    `the tunnel cannot reach the hub at ${hub.origin}: ${errorText(error)}. ${advice}`,
    { cause: error },
  );
}

/** Answers in the hub's stead, after the body that may still be coming, so that the client reads the answer. */
function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  code: string,
  detail: string,
): void {
  request.resume();
  const body = JSON.stringify(errorDocument(status, code, detail));
  response
    .writeHead(status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    })
    .end(body);
}

function responseHeaders(incoming: IncomingMessage): OutgoingHttpHeaders {
  return endToEndHeaders(incoming);
}

/** All headers but those of the connection, repeated ones kept apart. */
function endToEndHeaders(message: IncomingMessage): OutgoingHttpHeaders {
  const named = (message.headers.connection ?? '').toLowerCase().split(/\s*,\s*/);
  const headers: OutgoingHttpHeaders = {};
  for (const [name, values] of Object.entries(message.headersDistinct)) {
    if (values !== undefined && !HOP_BY_HOP.has(name) && !named.includes(name)) {
      headers[name] = values.length === 1 ? values[0] : values;
    }
  }
  return headers;
}
