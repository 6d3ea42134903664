/**
 * Says why the certificate of a server was refused: whose it is, who signed it, and what to set.
 *
 * OpenSSL has only a code for it, and Node has dropped the certificate when it reports that. So it is asked for once more, on a
 * connection over which nothing is sent and which is closed at once.
 */
import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { connect } from 'node:tls';

import { certificateName, validityProblem } from '../../base/authority-file.ts';
import { systemClock } from '../../base/clock.ts';
import { UnavailableError, errorCode, errorText } from '../../base/errors.ts';
import { trustOptions } from './trust.ts';

/** Node's names of OpenSSL's verification errors (crypto_common.cc), and its own for a host name that does not fit. */
const CERTIFICATE_CODES: ReadonlySet<string> = new Set([
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_CRL',
  'UNABLE_TO_DECRYPT_CERT_SIGNATURE',
  'UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY',
  'CERT_SIGNATURE_FAILURE',
  'CERT_NOT_YET_VALID',
  'CERT_HAS_EXPIRED',
  'ERROR_IN_CERT_NOT_BEFORE_FIELD',
  'ERROR_IN_CERT_NOT_AFTER_FIELD',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'CERT_CHAIN_TOO_LONG',
  'CERT_REVOKED',
  'INVALID_CA',
  'PATH_LENGTH_EXCEEDED',
  'INVALID_PURPOSE',
  'CERT_UNTRUSTED',
  'CERT_REJECTED',
  'HOSTNAME_MISMATCH',
  'ERR_TLS_CERT_ALTNAME_INVALID',
]);
const LOOK_TIMEOUT_MS = 3000;

/** A server that was dialled. */
export interface TlsPeer {
  /** How messages name it, such as "the hub". */
  readonly serverName: string;
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Whether a connection failed because the certificate of the server was refused. */
export function isCertificateFailure(error: unknown): boolean {
  return CERTIFICATE_CODES.has(errorCode(error) ?? '');
}

/** Whether a TLS handshake met something that does not speak TLS. */
export function isNoTls(error: unknown): boolean {
  return (
    errorCode(error) === 'ERR_SSL_WRONG_VERSION_NUMBER' ||
    (errorCode(error) === 'EPROTO' && errorText(error).includes('wrong version number'))
  );
}

/** The error for a refused certificate. */
export async function certificateRefused(peer: TlsPeer, error: unknown): Promise<UnavailableError> {
  const { serverName, host, port } = peer;
  const code = errorCode(error) ?? '';
  const shown = await presentedCertificate(host, port);
  const where = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  return new UnavailableError(
    'CERTIFICATE_REFUSED',
    `the certificate that ${serverName} at ${where} shows is not trusted: ${explain(code, host, shown, error)}`,
    {
      cause: error,
      details: {
        host,
        port,
        reason: code,
        ...(shown === undefined
          ? {}
          : { subject: certificateName(shown.subject), issuer: certificateName(shown.issuer) }),
      },
    },
  );
}

function explain(
  code: string,
  host: string,
  shown: X509Certificate | undefined,
  error: unknown,
): string {
  const subject = shown === undefined ? 'it' : `"${certificateName(shown.subject)}"`;
  switch (code) {
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
    case 'HOSTNAME_MISMATCH':
      return (
        `${subject} is for ${shown?.subjectAltName ?? 'other names'}, not for ${host}. ` +
        'Put a name of the certificate into the URL, or have it issued for this one too.'
      );
    case 'CERT_HAS_EXPIRED':
    case 'CERT_NOT_YET_VALID': {
      const when = shown && validityProblem(shown, systemClock.now());
      return (
        `${when ?? `${subject} or an authority above it is out of date`}. ` +
        'Whoever runs the server must renew it; is the clock of this machine right?'
      );
    }
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
      return `${subject} signed itself and is not known here. ${whatToSet('that very certificate')}`;
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE': {
      const issuer = shown === undefined ? 'an authority' : `"${certificateName(shown.issuer)}"`;
      return (
        `${subject} is signed by ${issuer}, and no authority known here vouches for that. ${whatToSet('that authority')} ` +
        'If it is there already, the server leaves out an intermediate certificate.'
      );
    }
    default:
      return `${subject}: ${errorText(error)}.`;
  }
}

function whatToSet(what: string): string {
  return `Set OUTPOST_CA_FILE (ca_file of an agent) to a PEM file with ${what}.`;
}

/**
 * Whether the certificate of a server is accepted, found out with a handshake and nothing else. A server that is not there is for
 * others to report.
 *
 * @throws UnavailableError CERTIFICATE_REFUSED.
 */
export async function checkCertificate(peer: TlsPeer, ca: string | undefined): Promise<void> {
  const { host, port } = peer;
  const failure = await new Promise<unknown>((resolve) => {
    const socket = connect({
      host,
      port,
      ...serverNameFor(host),
      ...trustOptions(ca),
      timeout: LOOK_TIMEOUT_MS,
    });
    const end = (error?: unknown): void => {
      resolve(error);
      socket.destroy();
    };
    socket.once('secureConnect', () => {
      end();
    });
    socket.once('timeout', () => {
      end();
    });
    socket.on('error', end);
  });
  if (isCertificateFailure(failure)) {
    throw await certificateRefused(peer, failure);
  }
}

/** Host and port of a URL, as sockets want them. */
export function tlsPeer(serverName: string, url: URL, defaultPort: number): TlsPeer {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return { serverName, host, port: url.port === '' ? defaultPort : Number(url.port) };
}

/** An address is no server name (RFC 6066 3). */
export function serverNameFor(host: string): { readonly servername?: string } {
  return isIP(host) === 0 ? { servername: host } : {};
}

/** What the server shows; undefined when it cannot be had. */
async function presentedCertificate(
  host: string,
  port: number,
): Promise<X509Certificate | undefined> {
  return await new Promise((resolve) => {
    const socket = connect({
      host,
      port,
      ...serverNameFor(host),
      // Nothing is sent and nothing is believed: this looks at the certificate that was refused a moment ago.
      rejectUnauthorized: false,
      timeout: LOOK_TIMEOUT_MS,
    });
    const end = (certificate?: X509Certificate): void => {
      resolve(certificate);
      socket.destroy();
    };
    socket.once('secureConnect', () => {
      end(socket.getPeerX509Certificate());
    });
    socket.once('timeout', end);
    socket.on('error', () => {
      end();
    });
    socket.once('close', () => {
      end();
    });
  });
}
