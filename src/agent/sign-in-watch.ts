/**
 * Looks whether the login of a person that the agent signs in with still stands. The broker knows nothing of logins: an agent that is
 * online would learn of the end of its own only when it has to register again, and one that nobody uses for months ends by itself.
 *
 *   LOOK_MS   is a login kept, and is its token fresh    a look at a file; a renewal when half the token's life is over
 *   ASK_MS    does the hub still take it                 one small request
 *   MEND_MS   both, while the login has ended            until somebody signs in again
 *
 * A hub that is away says nothing about the login.
 */
import { sleep } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { AuthError, ConfigError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import type { TokenSource } from '../transport/oauth/client-credentials.ts';

const LOOK_MS = 5_000;
const ASK_MS = 10 * 60_000;
const MEND_MS = 3_000;

/** Settings of a {@link SignInWatch}. */
export interface SignInWatchOptions {
  readonly tokens: TokenSource;
  /** Asks the hub for anything with such a token. */
  readonly ask: (signal: AbortSignal) => Promise<unknown>;
  /** Called when the login has ended, with why and what to do, and when there is one again. */
  readonly onChange: (failure: string | undefined) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Watches a login. */
export class SignInWatch {
  readonly #options: SignInWatchOptions;
  readonly #stopped = new AbortController();
  #failure: string | undefined;
  #askedAtMs: number;

  constructor(options: SignInWatchOptions) {
    this.#options = options;
    // Registering is the first time that the hub is asked.
    this.#askedAtMs = options.clock.monotonicMs();
  }

  /** Begins to look. */
  start(): void {
    detach(this.#options.logger, 'watching the login', this.#run());
  }

  /** Ends it; nothing is reported any more. */
  stop(): void {
    this.#stopped.abort();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    for (;;) {
      const delayMs = this.#failure === undefined ? LOOK_MS : MEND_MS;
      await sleep(this.#options.clock, delayMs, signal).catch(() => undefined);
      if (signal.aborted) {
        return;
      }
      await this.#look(signal);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { tokens, ask, clock, logger } = this.#options;
    try {
      await tokens.accessToken({ signal });
      if (this.#failure !== undefined || clock.monotonicMs() - this.#askedAtMs >= ASK_MS) {
        await ask(signal);
        this.#askedAtMs = clock.monotonicMs();
        this.#report(undefined);
      }
    } catch (error) {
      if (error instanceof AuthError || error instanceof ConfigError) {
        // Who looks again finds no login, and why there is none was told the first time.
        const isKnown = this.#failure !== undefined && error.code === 'CREDENTIALS_MISSING';
        this.#report(isKnown ? this.#failure : error.message);
      } else {
        logger.debug({ reason: errorText(error) }, 'the hub cannot be asked about the login');
      }
    }
  }

  #report(failure: string | undefined): void {
    if (failure === this.#failure || this.#stopped.signal.aborted) {
      return;
    }
    const { logger, onChange } = this.#options;
    this.#failure = failure;
    if (failure === undefined) {
      logger.info({}, 'signed in again');
    } else {
      logger.error({ reason: failure }, 'the login has ended: no new tasks until there is another');
    }
    onChange(failure);
  }
}
