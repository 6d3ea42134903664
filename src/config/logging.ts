/**
 * The product's logger: pino, as JSON to a bounded file or to stdout, readable on a terminal. Level and budget can be changed
 * while it is written.
 *
 * Secrets are kept out twice: fields with a telling name are replaced, and what looks like a password in a URL or a bearer
 * token in any text of a line is blanked just before writing.
 */
import { pino } from 'pino';

import { SECRET_PLACEHOLDER, blankSecrets } from '../base/blank-secrets.ts';
import type { Logger, LogControl } from '../base/logger.ts';
import { levelControl } from './log-level-control.ts';
import type { LogLevel } from './log-levels.ts';
import { RotatingFile } from './rotating-file.ts';

/** Where lines go. */
export type LogDestination =
  /** `bytesMax` is for this file and its predecessors together. */
  | { readonly kind: 'file'; readonly path: string; readonly bytesMax?: number }
  | { readonly kind: 'stdout' }
  | { readonly kind: 'terminal' };

/** Settings of {@link openLog}. */
export interface LogOptions {
  readonly level: LogLevel;
  readonly destination: LogDestination;
  /** Fields of every line. */
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** A logger, how to change it and how to end it. */
export interface OpenLog {
  readonly logger: Logger;
  readonly control: LogControl;
  readonly close: () => void;
}

/** Where lines go, once it is open. */
interface OpenDestination {
  readonly stream: { write: (line: string) => void };
  readonly setBytesMax: (bytesMax: number) => void;
  readonly close: () => void;
}

/** Lines that wait until stdout takes them; it hardly ever keeps them waiting. */
const STDOUT_WAITING_BYTES_MAX = 1024 * 1024;

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
  const { stream, setBytesMax, close } = await openDestination(destination);
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
  // Children are made without options of their own, so the level of their parent is theirs, also when it changes.
  const levels = levelControl(level, (next) => {
    logger.level = next;
  });
  return {
    logger,
    control: {
      get levels() {
        return levels.levels;
      },
      setLevel: levels.setLevel,
      configure: (settings) => {
        if (settings.bytesMax !== undefined) {
          setBytesMax(settings.bytesMax);
        }
        if (settings.level !== undefined) {
          levels.configure(settings.level);
        }
      },
    },
    close: () => {
      levels.end();
      close();
    },
  };
}

/**
 * Where stdout goes may be full, or away. What cannot be written waits for room, within bounds, and is then left out: the log must not
 * end what runs.
 */
function standardOutput(): OpenDestination['stream'] {
  const stream = pino.destination({ dest: 1, sync: true, maxLength: STDOUT_WAITING_BYTES_MAX });
  stream.on('error', () => {
    // There is nobody to be told: this is where it would be said.
  });
  return stream;
}

async function openDestination(destination: LogDestination): Promise<OpenDestination> {
  const unbounded = { setBytesMax: () => undefined, close: () => undefined };
  switch (destination.kind) {
    case 'file': {
      const file = new RotatingFile(destination);
      return {
        stream: file,
        setBytesMax: (bytesMax) => {
          file.setBytesMax(bytesMax);
        },
        close: () => {
          file.close();
        },
      };
    }
    case 'stdout':
      return { stream: standardOutput(), ...unbounded };
    case 'terminal': {
      // Loaded here only: it is slow to load, and a daemon has no use for it.
      const { default: pretty } = await import('pino-pretty');
      const options = {
        sync: true,
        destination: 1,
        translateTime: 'SYS:HH:MM:ss.l',
        ignore: 'pid',
      };
      return { stream: pretty(options), ...unbounded };
    }
  }
}
