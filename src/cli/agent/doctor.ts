/**
 * `agent doctor`: looks at everything that an endpoint needs, and says of each what was found and what to type. It may be used while the
 * agent runs and disturbs nothing; every check has a deadline.
 */
import { UsageError } from '../../base/errors.ts';
import { defineCommand } from '../command-line.ts';
import { bold, durationText, printJson, printLine, printNote } from '../output.ts';
import { runChecks, withPrerequisites } from './doctor/check.ts';
import type { CheckReport, Verdict } from './doctor/check.ts';
import { CHECKS } from './doctor/checks.ts';
import { openSubject } from './doctor/subject.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';

const TIMEOUT_S = 15;
/** From the worst to the best. */
const VERDICTS: readonly Verdict[] = ['failed', 'warning', 'ok', 'skipped'];

/** What `agent doctor --json` prints. */
interface DoctorDocument {
  readonly name: string;
  readonly directory: string;
  /** ISO 8601. */
  readonly at: string;
  /** The worst of all checks. */
  readonly verdict: Verdict;
  readonly exit_code: number;
  readonly duration_ms: number;
  readonly checks: readonly CheckReport[];
  /** Archive that was written. */
  readonly bundle: string | null;
}

/** Looks at an endpoint and its surroundings. */
export const doctor = defineCommand(
  (parser) =>
    withEndpointName(parser)
      .option('only', {
        type: 'string',
        requiresArg: true,
        describe: 'Only these checks, separated by commas, and those that they build on',
      })
      .option('timeout', {
        type: 'number',
        default: TIMEOUT_S,
        requiresArg: true,
        describe: 'Seconds that one check may take',
      })
      .option('bundle', {
        type: 'string',
        requiresArg: true,
        describe: 'Also write an archive for a report to this file (.tar.gz), without secrets',
      }),
  async (argv) => {
    if (!(argv.timeout > 0 && argv.timeout <= 3600)) {
      throw new UsageError('--timeout must be a number of seconds, more than 0 and at most 3600.');
    }
    const names = askedNames(argv.only);
    const context = await openEndpoint(argv.name);
    const { name, path } = context.directory;
    const subject = await openSubject(context, argv.timeout * 1000);
    const checks = withPrerequisites(CHECKS, names);
    if (!argv.json && process.stderr.isTTY) {
      printNote(
        `Looking at endpoint ${name}: ${checks.length} checks side by side, at most ${argv.timeout} s each …`,
      );
    }
    const begunMs = performance.now();
    const reports = (await runChecks(checks, subject)).filter(
      // What others build on is shown when it is why they could not be made.
      (report) => names.has(report.name) || report.verdict === 'failed',
    );
    const document: DoctorDocument = {
      name,
      directory: path,
      at: new Date().toISOString(),
      verdict:
        VERDICTS.find((verdict) => reports.some((report) => report.verdict === verdict)) ??
        'skipped',
      exit_code: reports.find(({ verdict }) => verdict === 'failed')?.exit_code ?? 0,
      duration_ms: Math.round(performance.now() - begunMs),
      checks: reports,
      bundle: argv.bundle ?? null,
    };
    if (argv.bundle !== undefined) {
      const { writeBundle } = await import('./doctor/bundle.ts');
      await writeBundle(argv.bundle, subject, document);
    }
    if (argv.json) {
      printJson(document);
    } else {
      printReport(document);
    }
    return document.exit_code;
  },
);

function askedNames(only: string | undefined): ReadonlySet<string> {
  const known = CHECKS.map(({ name }) => name);
  if (only === undefined) {
    return new Set(known);
  }
  const asked = only
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  const unknown = asked.filter((name) => !known.includes(name));
  if (unknown.length > 0 || asked.length === 0) {
    throw new UsageError(
      `--only ${only}: ${unknown.length === 0 ? 'no check was named' : `there is no check ${unknown.join(', ')}`}. There are: ${known.join(', ')}.`,
    );
  }
  return new Set(asked);
}

function printReport({ checks, duration_ms: ms, bundle }: DoctorDocument): void {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const indent = ' '.repeat(width + 11);
  for (const { name, verdict, found, remedy } of checks) {
    const word = verdict.padEnd(7);
    const shown = verdict === 'failed' || verdict === 'warning' ? bold(word.toUpperCase()) : word;
    printLine(`${shown}  ${name.padEnd(width)}  ${found.replaceAll('\n', `\n${indent}`)}`);
    if (remedy !== null) {
      printLine(`${indent}→ ${remedy}`);
    }
  }
  const counts = (['ok', 'warning', 'failed', 'skipped'] as const)
    .map((verdict) => `${checks.filter((check) => check.verdict === verdict).length} ${verdict}`)
    .join(', ');
  printLine();
  printLine(`${checks.length} checks in ${durationText(ms)}: ${counts}.`);
  if (bundle !== null) {
    printLine(`Wrote ${bundle}. Look through it before you send it to anybody.`);
  }
}
