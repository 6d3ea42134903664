/**
 * What a check of `agent doctor` is, and how checks are run: side by side, each after those that it builds on and with a deadline of its
 * own, so that one that hangs holds up nothing but what follows from it.
 */
import { systemClock } from '../../../base/clock.ts';
import { withDeadline } from '../../../base/deadline.ts';
import { ComputeError, UnavailableError, errorText } from '../../../base/errors.ts';
import type { Subject } from './subject.ts';

/** What a check says in the end. */
export type Verdict = 'ok' | 'warning' | 'failed' | 'skipped';

/** Facts of a check, for programs. Never a secret. */
export type Facts = Readonly<Record<string, unknown>>;

/** What a check has found. */
export interface Finding {
  readonly verdict: Verdict;
  /** In words. */
  readonly found: string;
  /** What to type or to do. */
  readonly remedy?: string;
  /** Of `agent doctor`, when this is the first that failed. */
  readonly exitCode?: number;
  readonly details?: Facts;
}

/** One check. */
export interface Check {
  readonly name: string;
  /** Names of checks that must not have failed before, and not been skipped. */
  readonly after?: readonly string[];
  /** Settings that it uses: with a wrong one it would look at something else than the agent does. */
  readonly settings?: readonly string[];
  /** What to do when it throws; NAME stands for the endpoint. */
  readonly remedy: string;
  /** `signal` is aborted at the deadline. */
  readonly run: (subject: Subject, signal: AbortSignal) => Promise<Finding> | Finding;
}

/** A check that was made, as it stands in `--json`. */
export interface CheckReport {
  readonly name: string;
  readonly verdict: Verdict;
  readonly found: string;
  readonly remedy: string | null;
  readonly exit_code: number | null;
  readonly duration_ms: number;
  readonly details: Facts;
}

/** How long a check may take to put away what it has begun, after its deadline. */
const CLEAN_UP_MS = 2_500;

/** sysexits.h, by who must act. */
export const EXIT = {
  conflict: 69,
  software: 70,
  tryAgain: 75,
  credentials: 77,
  settings: 78,
} as const;

/** It is as it should be. */
export function ok(found: string, details: Facts = {}): Finding {
  return { verdict: 'ok', found, details };
}

/** It works, and will not always, or not for everything. */
export function warning(found: string, remedy: string, details: Facts = {}): Finding {
  return { verdict: 'warning', found, remedy, details };
}

/** It does not work. */
export function failed(
  exitCode: number,
  found: string,
  remedy: string,
  details: Facts = {},
): Finding {
  return { verdict: 'failed', found, remedy, exitCode, details };
}

/** It could not be looked at, or there is nothing to look at. */
export function skipped(found: string, remedy?: string): Finding {
  return { verdict: 'skipped', found, ...(remedy !== undefined && { remedy }) };
}

/** The checks that were named and those that they build on, in the order of the list. */
export function withPrerequisites(
  checks: readonly Check[],
  names: ReadonlySet<string>,
): readonly Check[] {
  const wanted = new Set(names);
  // A check stands below all that it builds on.
  for (const check of checks.toReversed()) {
    if (wanted.has(check.name)) {
      check.after?.forEach((name) => wanted.add(name));
    }
  }
  return checks.filter(({ name }) => wanted.has(name));
}

/** Runs checks side by side. Reports stand in the order of the list. Never rejects because of a check. */
export async function runChecks(
  checks: readonly Check[],
  subject: Subject,
): Promise<CheckReport[]> {
  const running = new Map<string, Promise<CheckReport>>();
  for (const check of checks) {
    running.set(check.name, runInTurn(check, subject, running));
  }
  return await Promise.all(running.values());
}

async function runInTurn(
  check: Check,
  subject: Subject,
  running: ReadonlyMap<string, Promise<CheckReport>>,
): Promise<CheckReport> {
  const wrong = check.settings?.find((key) => subject.settings.isWrong(key));
  if (wrong !== undefined) {
    return report(check, skipped(`the setting ${wrong} is wrong (see: settings)`), 0);
  }
  for (const name of check.after ?? []) {
    const before = await running.get(name);
    if (before !== undefined && (before.verdict === 'failed' || before.verdict === 'skipped')) {
      return report(
        check,
        skipped(
          `it builds on ${name}, which ${before.verdict === 'failed' ? 'failed' : 'was skipped'}`,
        ),
        0,
      );
    }
  }
  const begunMs = systemClock.monotonicMs();
  const finding = await bounded(check, subject);
  return report(check, finding, systemClock.monotonicMs() - begunMs);
}

async function bounded(check: Check, subject: Subject): Promise<Finding> {
  const { limitMs, context } = subject;
  const abort = new AbortController();
  const work = (async () => await check.run(subject, abort.signal))();
  try {
    return await withDeadline(systemClock, limitMs, work, () => {
      const what = `it was not done within ${limitMs / 1000} s`;
      return new UnavailableError('TIMED_OUT', what);
    });
  } catch (error) {
    const exitCode = error instanceof ComputeError ? error.exitCode : EXIT.software;
    const code = error instanceof ComputeError ? error.code : 'INTERNAL';
    const remedy = check.remedy.replaceAll('NAME', context.directory.name);
    return failed(exitCode, errorText(error), remedy, { code });
  } finally {
    abort.abort();
    await cleanedUp(work);
  }
}

/** Waits until a check that was called off has put away what it had begun, such as a worker host. */
async function cleanedUp(work: Promise<unknown>): Promise<void> {
  const late = new UnavailableError('TIMED_OUT', 'it does not end');
  await withDeadline(systemClock, CLEAN_UP_MS, work, () => late).catch(() => undefined);
}

function report({ name }: Check, finding: Finding, durationMs: number): CheckReport {
  const { verdict, found, remedy, exitCode, details } = finding;
  return {
    name,
    verdict,
    found,
    remedy: remedy ?? null,
    exit_code: verdict === 'failed' ? (exitCode ?? EXIT.software) : null,
    duration_ms: Math.round(durationMs),
    details: details ?? {},
  };
}
