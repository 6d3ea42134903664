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
  child: (fields: Record<string, unknown>) => Logger;
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
