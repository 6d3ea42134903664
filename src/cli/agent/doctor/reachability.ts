/** The way to a server, step by step: its name, a connection, the certificate that it shows. The same for hub and broker. */
import { lookup } from 'node:dns/promises';
import { connect as connectTcp, isIP } from 'node:net';
import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { connect as connectTls } from 'node:tls';

import { certificateName } from '../../../base/authority-file.ts';
import { UnavailableError, errorCode, errorText } from '../../../base/errors.ts';
import { isLoopback } from '../../../transport/http/secure-url.ts';
import {
  certificateRefused,
  isCertificateFailure,
  isNoTls,
  serverNameFor,
} from '../../../transport/tls/certificate-refused.ts';
import type { TlsPeer } from '../../../transport/tls/certificate-refused.ts';
import { trustOptions } from '../../../transport/tls/trust.ts';
import { EXIT, failed, ok, warning } from './check.ts';
import type { Check, Finding } from './check.ts';
import type { Subject } from './subject.ts';

const DAY_MS = 86_400_000;
/** A certificate that ends sooner deserves a word. */
const EXPIRY_NOTICE_DAYS = 14;

/** A server on the way to which something may be wrong. */
export interface Server extends TlsPeer {
  readonly hasTls: boolean;
}

/** What distinguishes the checks of one server from those of another. */
export interface ServerChecks {
  /** Before the names of the checks: `hub` gives `hub-dns`. */
  readonly prefix: string;
  readonly after?: readonly string[];
  readonly settings: readonly string[];
  /** Where its address can be put right. */
  readonly addressFrom: string;
  readonly serverOf: (subject: Subject) => Promise<Server> | Server;
}

/** The checks of the way to a server. */
export function reachabilityChecks(server: ServerChecks): readonly Check[] {
  const { prefix, after = [], settings, addressFrom, serverOf } = server;
  const remedy = `Check the address (${addressFrom}) and the network in between`;
  return [
    {
      name: `${prefix}-dns`,
      after,
      settings,
      remedy,
      run: async (subject) => await nameFinding(await serverOf(subject), addressFrom),
    },
    {
      name: `${prefix}-tcp`,
      after: [`${prefix}-dns`],
      settings,
      remedy,
      run: async (subject, signal) =>
        await tcpFinding(await serverOf(subject), subject, signal, addressFrom),
    },
    {
      name: `${prefix}-tls`,
      after: [`${prefix}-tcp`],
      settings,
      remedy: `Set ca_file (OUTPOST_CA_FILE) to the authority of the server, or have the certificate renewed`,
      run: async (subject, signal) => await tlsFinding(await serverOf(subject), subject, signal),
    },
  ];
}

async function nameFinding({ host, serverName }: Server, addressFrom: string): Promise<Finding> {
  if (isIP(host) !== 0) {
    return ok(`${host} is an address and no name`, { addresses: [host] });
  }
  try {
    const addresses = (await lookup(host, { all: true })).map(({ address }) => address);
    return ok(`${host} is ${addresses.join(', ')}`, { addresses });
  } catch (error) {
    const why =
      errorCode(error) === 'ENOTFOUND'
        ? 'has no address'
        : `cannot be looked up: ${errorText(error)}`;
    return failed(
      EXIT.tryAgain,
      `the name of ${serverName}, ${host}, ${why}`,
      `Check the name in ${addressFrom}; try: getent hosts ${host}`,
      { host, code: errorCode(error) },
    );
  }
}

async function tcpFinding(
  { host, port, serverName }: Server,
  { limitMs }: Subject,
  signal: AbortSignal,
  addressFrom: string,
): Promise<Finding> {
  const begunMs = performance.now();
  try {
    const remote = await opened(
      connectTcp({ host, port, timeout: limitMs * 0.8 }),
      signal,
      'connect',
      (socket) => socket.remoteAddress,
    );
    const ms = performance.now() - begunMs;
    return ok(`${remote ?? host} port ${port} answers after ${ms.toFixed(1)} ms`, { port, ms });
  } catch (error) {
    const code = errorCode(error);
    const isRefused = code === 'ECONNREFUSED';
    return failed(
      EXIT.tryAgain,
      `no connection to ${serverName} at ${host} port ${port}: ${isRefused ? 'nothing listens there' : errorText(error)}`,
      isRefused
        ? `Check that it runs, and the port in ${addressFrom}`
        : `Ask the administrators whether this host may connect to ${host} port ${port}; try: nc -vz ${host} ${port}`,
      { host, port, code },
    );
  }
}

async function tlsFinding(server: Server, subject: Subject, signal: AbortSignal): Promise<Finding> {
  const { host, port, hasTls, serverName } = server;
  const { ca } = subject.settings.config;
  if (!hasTls) {
    return isLoopback(host) || host === '::1'
      ? ok(`${serverName} is on this machine and spoken to without TLS`, { tls: false })
      : warning(
          `${serverName} at ${host} is spoken to without TLS: whoever listens on the network can read the password and every task`,
          `Have its operator give it a certificate and name it with the scheme for TLS (https, amqps)`,
          { tls: false },
        );
  }
  const begunMs = performance.now();
  try {
    const options = {
      host,
      port,
      ...serverNameFor(host),
      ...trustOptions(ca),
      timeout: subject.limitMs * 0.8,
    };
    const socket = connectTls(options);
    const seen = await opened(socket, signal, 'secureConnect', () => ({
      certificate: socket.getPeerX509Certificate(),
      protocol: socket.getProtocol(),
    }));
    const ms = performance.now() - begunMs;
    const { certificate, protocol } = seen;
    if (certificate === undefined) {
      return ok(`${protocol ?? 'TLS'} after ${ms.toFixed(0)} ms`);
    }
    const days = Math.floor((Date.parse(certificate.validTo) - Date.now()) / DAY_MS);
    const issuer = certificateName(certificate.issuer);
    const details = {
      protocol,
      issuer,
      subject: certificateName(certificate.subject),
      valid_to: certificate.validTo,
      days,
    };
    const found = `${protocol ?? 'TLS'}; the certificate is signed by "${issuer}" and ends in ${days} days`;
    return days < EXPIRY_NOTICE_DAYS
      ? warning(
          found,
          `Tell the operator of ${serverName} to renew it before ${certificate.validTo}`,
          details,
        )
      : ok(found, details);
  } catch (error) {
    if (isCertificateFailure(error)) {
      throw await certificateRefused(server, error);
    }
    return isNoTls(error)
      ? failed(
          EXIT.tryAgain,
          `what listens at ${host} port ${port} speaks no TLS`,
          'Check the port in the address, and whether it begins with the right scheme (https, amqps)',
        )
      : failed(
          EXIT.tryAgain,
          `no TLS with ${serverName}: ${errorText(error)}`,
          'Check whether a proxy or firewall stands in between',
        );
  }
}

/** What `look` sees of a socket when it is open. The socket is closed in any case. */
async function opened<T>(
  socket: Socket,
  signal: AbortSignal,
  event: 'connect' | 'secureConnect',
  look: (socket: Socket) => T,
): Promise<T> {
  const stop = (): void => {
    socket.destroy(new UnavailableError('TIMED_OUT', 'it did not answer in time'));
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await new Promise<T>((resolve, reject) => {
      socket.once(event, () => {
        resolve(look(socket));
      });
      socket.once('timeout', stop);
      socket.on('error', reject);
    });
  } finally {
    signal.removeEventListener('abort', stop);
    socket.destroy();
  }
}
