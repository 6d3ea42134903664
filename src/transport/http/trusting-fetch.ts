/**
 * A fetch that trusts further authorities. The one of the platform cannot be told any: it has what NODE_EXTRA_CA_CERTS named when
 * the process began.
 *
 * Made for {@link HttpTransport} and no more general than that: texts as bodies, no redirects, no compression.
 */
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import { Readable } from 'node:stream';

import { ProtocolError } from '../../base/errors.ts';
import { trusting } from '../tls/trust.ts';

/** Idle connections are closed before servers and proxies do it, so that a request does not meet one that just was. */
const IDLE_MS = 4000;
/** Statuses whose responses have no body (fetch standard, "null body status"). */
const NO_BODY: ReadonlySet<number> = new Set([101, 103, 204, 205, 304]);

const AGENTS_KEPT = 8;
const agents = new Map<string, Agent>();

/** Connections for a set of authorities; idle ones neither keep the process alive nor stay. */
function agentFor(ca: string): Agent {
  let agent = agents.get(ca);
  if (agent === undefined) {
    agent = new Agent({ keepAlive: true, timeout: IDLE_MS, secureContext: trusting(ca) });
    agents.set(ca, agent);
    const [oldest] = agents.keys();
    if (agents.size > AGENTS_KEPT && oldest !== undefined) {
      agents.delete(oldest);
    }
  }
  return agent;
}

/** A fetch that trusts these authorities (PEM) beside the system's. */
export function fetchTrusting(ca: string): typeof fetch {
  return async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input);
    if (url.protocol !== 'https:') {
      return await fetch(input, init);
    }
    const { method = 'GET', body, signal } = init;
    if (body !== undefined && body !== null && typeof body !== 'string') {
      throw new ProtocolError(
        'ENVELOPE_INVALID',
        'only a text can be sent with a private authority',
      );
    }
    const headers = Object.fromEntries(new Headers(init.headers));
    return toResponse(
      await new Promise<IncomingMessage>((resolve, reject) => {
        const outgoing = request(
          url,
          {
            method,
            headers: {
              ...headers,
              ...(typeof body === 'string' ? { 'content-length': Buffer.byteLength(body) } : {}),
            },
            agent: agentFor(ca),
            ...(signal === undefined || signal === null ? {} : { signal }),
          },
          resolve,
        );
        outgoing.on('error', reject);
        outgoing.end(body ?? undefined);
      }),
    );
  };
}

function toResponse(incoming: IncomingMessage): Response {
  const status = incoming.statusCode ?? 0;
  const headers = new Headers();
  for (let index = 0; index + 1 < incoming.rawHeaders.length; index += 2) {
    headers.append(incoming.rawHeaders[index] ?? '', incoming.rawHeaders[index + 1] ?? '');
  }
  if (NO_BODY.has(status)) {
    incoming.resume();
    return new Response(null, { status, headers });
  }
  return new Response(Readable.toWeb(incoming) as ReadableStream, { status, headers });
}
