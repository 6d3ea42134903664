/**
 * Takes over a renewed certificate while the hub listens: connections that stand are not touched, new ones see the new one.
 *
 * The files are looked at every minute, because programs that renew certificates replace files and tell nobody. A pair that does not
 * fit (they are replaced one after the other) is left alone until it does.
 */
import { X509Certificate } from 'node:crypto';
import type { Server } from 'node:https';

import { validityProblem } from '../../base/authority-file.ts';
import { systemClock } from '../../base/clock.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { TlsIdentity } from './listeners.ts';

const LOOK_EVERY_MS = 60_000;
/** Programs renew a month ahead; a certificate that is this close to its end was forgotten. */
const SOON_MS = 7 * 24 * 3600 * 1000;

/** Settings of a {@link CertificateRenewal}. */
export interface CertificateRenewalOptions {
  readonly identity: TlsIdentity;
  readonly servers: readonly Server[];
  readonly logger: Logger;
  readonly clock?: Clock;
  /** @defaultValue one minute */
  readonly everyMs?: number;
}

/** Keeps servers at the certificate that their files hold. */
export class CertificateRenewal {
  readonly #options: CertificateRenewalOptions;
  readonly #clock: Clock;
  #current: Pick<TlsIdentity, 'cert' | 'key'>;
  #lastProblem: string | undefined;
  #timer: Timer | undefined;

  constructor(options: CertificateRenewalOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#current = options.identity;
  }

  /** Looks now and then again and again. */
  start(): void {
    this.#look();
    this.#timer = this.#clock.after(this.#options.everyMs ?? LOOK_EVERY_MS, () => {
      this.start();
    });
  }

  /** Ends looking. */
  stop(): void {
    this.#timer?.cancel();
  }

  #look(): void {
    const { identity, servers, logger } = this.#options;
    let problem: string | undefined;
    try {
      const found = identity.reload?.() ?? this.#current;
      if (found.cert !== this.#current.cert || found.key !== this.#current.key) {
        for (const server of servers) {
          server.setSecureContext({ cert: found.cert, key: found.key });
        }
        this.#current = found;
        logger.info({}, 'took over a renewed certificate');
      }
      problem = endProblem(this.#current.cert, this.#clock.now());
    } catch (error) {
      problem = `the renewed certificate cannot be used, the old one stays: ${errorText(error)}`;
    }
    if (problem !== undefined && problem !== this.#lastProblem) {
      logger.warn({ problem }, 'certificate of the hub');
    }
    this.#lastProblem = problem;
  }
}

function endProblem(cert: string, nowMs: number): string | undefined {
  const certificate = new X509Certificate(cert);
  const isSoon = Date.parse(certificate.validTo) - nowMs < SOON_MS;
  return (
    validityProblem(certificate, nowMs) ??
    (isSoon ? `it expires on ${certificate.validTo}: renew it` : undefined)
  );
}
