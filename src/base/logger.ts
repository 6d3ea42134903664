/**
 * The logger as the product sees it. pino satisfies it; messages are constants, values go into the fields.
 */

type LogMethod = (fields: object, message: string) => void;

/** Structured logger. */
export interface Logger {
  trace: LogMethod;
  debug: LogMethod;
  info: LogMethod;
  warn: LogMethod;
  error: LogMethod;
  fatal: LogMethod;
  /** A logger whose records have these fields, too. */
  child: (fields: Record<string, unknown>) => Logger;
}

/** Which messages a log takes. */
export interface LogLevels {
  /** The least important that are logged now. */
  readonly level: string;
  /** What the settings say. */
  readonly configured: string;
  /** When the level goes back to what the settings say, ISO 8601; null when nobody has set an end. */
  readonly until: string | null;
}

/** What can be changed about a log while it is written. */
export interface LogControl {
  readonly levels: LogLevels;
  /** Logs from this level on, for so many milliseconds or until the next start; undefined goes back to the settings. */
  setLevel: (level: string | undefined, forMs?: number) => LogLevels;
  /** Takes over settings that have changed, which ends what `setLevel` did. */
  configure: (settings: { readonly level?: string; readonly bytesMax?: number }) => void;
}

const discard: LogMethod = () => undefined;

/** A logger that discards everything. */
export const silentLogger: Logger = {
  trace: discard,
  debug: discard,
  info: discard,
  warn: discard,
  error: discard,
  fatal: discard,
  child: () => silentLogger,
};

/** Runs work whose end nobody waits for; a rejection is logged under `what`, never lost. */
export function detach(logger: Logger, what: string, work: Promise<unknown>): void {
  work.catch((error: unknown) => {
    logger.error({ err: error, what }, 'background work failed');
  });
}
