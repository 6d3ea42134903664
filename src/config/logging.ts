/**
 * The product's logger: pino, as JSON to a bounded file or to stdout, readable on a terminal.
 *
 * Secrets are kept out twice: fields with a telling name are replaced, and what looks like a password in a URL or a bearer
 * token in any text of a line is blanked just before writing.
 */
import { pino } from 'pino';

import type { Logger } from '../base/logger.ts';
import type { LogLevel } from './options.ts';
import { RotatingFile } from './rotating-file.ts';
import { SECRET_PLACEHOLDER } from './secret.ts';

/** Where lines go. */
export type LogDestination =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'stdout' }
  | { readonly kind: 'terminal' };

/** Settings of {@link openLog}. */
export interface LogOptions {
  readonly level: LogLevel;
  readonly destination: LogDestination;
  /** Fields of every line. */
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** A logger and how to end it. */
export interface OpenLog {
  readonly logger: Logger;
  readonly close: () => void;
}

const SECRET_FIELDS = [
  'authorization',
  'client_secret',
  'clientSecret',
  'access_token',
  'accessToken',
  'refresh_token',
  'password',
  'secret',
  'token',
  'connection_url',
  'connectionUrl',
] as const;

/** Paths that are replaced in every log line: the telling names, up to two levels down. */
const REDACTED_PATHS: readonly string[] = SECRET_FIELDS.flatMap((field) => [
  field,
  `*.${field}`,
  `*.*.${field}`,
]);

/** Opens the log. */
export async function openLog({ level, destination, fields = {} }: LogOptions): Promise<OpenLog> {
  const { stream, close } = await openDestination(destination);
  const logger = pino(
    {
      level,
      base: destination.kind === 'terminal' ? null : { pid: process.pid, ...fields },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: [...REDACTED_PATHS], censor: SECRET_PLACEHOLDER },
      hooks: { streamWrite: blankSecrets },
    },
    stream,
  );
  return { logger, close };
}

/** Blanks passwords in URLs and bearer tokens in a line of the log. */
export function blankSecrets(line: string): string {
  return line
    .replaceAll(
      /(?<prefix>\b[a-z][a-z0-9+.-]*:\/\/[^\s"'/:@]*:)[^\s"'/@]+@/gi,
      `$<prefix>${SECRET_PLACEHOLDER}@`,
    )
    .replaceAll(
      /(?<scheme>\b(?:Bearer|Basic) )[A-Za-z0-9._~+/-]{8,}=*/g,
      `$<scheme>${SECRET_PLACEHOLDER}`,
    );
}

async function openDestination(
  destination: LogDestination,
): Promise<{ stream: { write: (line: string) => void }; close: () => void }> {
  switch (destination.kind) {
    case 'file': {
      const file = new RotatingFile({ path: destination.path });
      return {
        stream: file,
        close: () => {
          file.close();
        },
      };
    }
    case 'stdout':
      return { stream: pino.destination({ dest: 1, sync: true }), close: () => undefined };
    case 'terminal': {
      // Loaded here only: it is slow to load, and a daemon has no use for it.
      const { default: pretty } = await import('pino-pretty');
      const options = {
        sync: true,
        destination: 1,
        translateTime: 'SYS:HH:MM:ss.l',
        ignore: 'pid',
      };
      return { stream: pretty(options), close: () => undefined };
    }
  }
}
