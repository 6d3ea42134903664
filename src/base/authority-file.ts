/**
 * Reads a file with certificate authorities that are trusted beside the system's own, for everything that takes one: agent, hub,
 * SDK, tunnel. What is wrong with it is found here, when it is read, and not in the middle of a handshake with a code of OpenSSL.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';

import { systemClock } from './clock.ts';
import { errorCode, errorText } from './errors.ts';

/** The certificates as PEM, or what was expected of the file instead. */
export type AuthorityReading = { readonly pem: string } | { readonly expected: string };

const PEM_CERTIFICATE =
  /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END (?:TRUSTED )?CERTIFICATE-----/g;
/** The whole list of a distribution has 200 KB. */
const FILE_BYTES_MAX = 4 * 1024 * 1024;

/** Reads the authorities of a PEM file; anything else in it, such as a key, is left out. Never throws. */
export function readAuthorityFile(path: string, nowMs = systemClock.now()): AuthorityReading {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const expected =
      errorCode(error) === 'ENOENT'
        ? 'there is no such file'
        : `a file that can be read; ${errorText(error)}`;
    return { expected };
  }
  if (bytes.length > FILE_BYTES_MAX) {
    return { expected: `a file of at most ${FILE_BYTES_MAX} bytes` };
  }
  const blocks = bytes.toString('latin1').match(PEM_CERTIFICATE) ?? [];
  if (blocks.length === 0) {
    return {
      expected:
        'a file with certificates as PEM (-----BEGIN CERTIFICATE-----), and it has none; from DER: openssl x509 -inform der -in FILE',
    };
  }
  return judge(blocks, nowMs);
}

/** One that cannot be read spoils the file; one that is out of date only when there is no other, as in the list of a system. */
function judge(blocks: readonly string[], nowMs: number): AuthorityReading {
  const problems: string[] = [];
  for (const [index, block] of blocks.entries()) {
    try {
      const certificate = new X509Certificate(block);
      const problem = validityProblem(certificate, nowMs);
      if (problem !== undefined) {
        problems.push(problem);
      }
    } catch (error) {
      return { expected: `certificates as PEM; number ${index + 1} is none: ${errorText(error)}` };
    }
  }
  return problems.length === blocks.length
    ? { expected: `a certificate that is valid now; ${problems.join('; ')}` }
    : { pem: `${blocks.join('\n')}\n` };
}

/** In words, when a certificate is not valid at a time. */
export function validityProblem(certificate: X509Certificate, nowMs: number): string | undefined {
  const name = certificateName(certificate.subject);
  if (nowMs > Date.parse(certificate.validTo)) {
    return `that of "${name}" expired on ${certificate.validTo}`;
  }
  return nowMs < Date.parse(certificate.validFrom)
    ? `that of "${name}" is not valid before ${certificate.validFrom} (is the clock of this machine right?)`
    : undefined;
}

/** A distinguished name on one line. */
export function certificateName(name: string): string {
  return name.trim().replaceAll('\n', ', ');
}
