/**
 * The edge of the process: runs one command, turns what it throws into a message and an exit code, and exits.
 *
 *   value          stdout                                   stderr      exit code
 *   number         what the command printed                 –           the number
 *   ComputeError   with --json {"error": {code, message}}   message     error.exitCode (sysexits.h)
 *   other error    with --json {"error": {code: INTERNAL}}  stack       70
 *
 * Only this file ends the process, and only after what was printed has been written.
 */
import { blankSecrets } from '../base/blank-secrets.ts';
import { ComputeError, ConfigError, errorText } from '../base/errors.ts';
import { printLine, printNote } from './output.ts';

/** What is read from the parsed command line here. */
export interface CommandArguments {
  readonly json?: boolean | undefined;
}

/** Exit code of a command whose failure is a bug of ours (sysexits.h EX_SOFTWARE). */
const EXIT_SOFTWARE = 70;

/** Runs `action`, whose value is the exit code, and ends the process. */
export async function runCommand(
  argv: CommandArguments,
  action: () => Promise<number>,
): Promise<never> {
  dieQuietlyWhenReaderLeaves();
  let exitCode: number;
  try {
    exitCode = await action();
  } catch (error) {
    exitCode = reportFailure(error, argv.json === true);
  }
  process.exitCode = exitCode;
  await flushed(process.stdout);
  await flushed(process.stderr);
  process.exit(exitCode);
}

/** Prints a failure as {@link runCommand} does, and returns its exit code. */
export function reportFailure(error: unknown, asJson: boolean): number {
  // A careless server repeats in its refusal what it was sent, credentials and all.
  if (asJson) {
    printLine(blankSecrets(JSON.stringify({ error: errorDocument(error) }, undefined, 2)));
  }
  if (error instanceof ComputeError) {
    printNote(blankSecrets(error.message));
    return error.exitCode;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  printNote(`Internal error, please report it: ${blankSecrets(text)}`);
  return EXIT_SOFTWARE;
}

/** An error as it stands in `--json` output and between the starting command and its background process. */
export interface CommandFailure {
  readonly code: string;
  readonly message: string;
  readonly exitCode: number;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly problems?: readonly Readonly<Record<string, unknown>>[];
}

/** The document that stands for an error. */
export function errorDocument(error: unknown): CommandFailure {
  if (!(error instanceof ComputeError)) {
    return { code: 'INTERNAL', message: errorText(error), exitCode: EXIT_SOFTWARE };
  }
  return {
    code: error.code,
    message: error.message,
    exitCode: error.exitCode,
    ...(Object.keys(error.details).length > 0 && { details: error.details }),
    ...(error instanceof ConfigError && {
      problems: error.problems.map((problem) => ({ ...problem })),
    }),
  };
}

// `agent list | head -1` closes our stdout, and a terminal may be gone: that is no failure of ours, and nothing is left to say to anybody.
function dieQuietlyWhenReaderLeaves(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    const hasReaderLeft = error.code === 'EPIPE' || error.code === 'EIO';
    process.exit(hasReaderLeft ? (process.exitCode ?? 0) : EXIT_SOFTWARE);
  });
}

async function flushed(stream: NodeJS.WriteStream): Promise<void> {
  await new Promise<void>((resolve) => {
    stream.write('', () => {
      resolve();
    });
  });
}
