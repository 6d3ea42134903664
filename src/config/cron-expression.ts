/** Cron expressions, judged by the library that will run them, so that what is accepted here is what is scheduled there. */
import { createRequire } from 'node:module';

import type { NodeCron } from 'node-cron';

import type { Reading } from './reading.ts';

/** What a cron expression looks like. */
export const CRON_EXPECTATION =
  'a cron expression: minute, hour, day of month, month and day of week (17 3 * * *)';

/** Reads the value of an option as a cron expression. */
export function readCronExpression(raw: unknown): Reading<string> {
  if (typeof raw !== 'string') {
    return { expected: CRON_EXPECTATION };
  }
  const expression = raw.trim();
  // Loaded here only: every command reads settings, and few settings are schedules.
  const { validateDetailed } = createRequire(import.meta.url)('node-cron') as NodeCron;
  const { valid, errors } = validateDetailed(expression);
  if (valid) {
    return { value: expression };
  }
  const wrong = errors.find(({ value }) => value !== undefined);
  return {
    expected:
      wrong?.value === undefined
        ? CRON_EXPECTATION
        : `${CRON_EXPECTATION}; "${wrong.value}" is no ${wrong.field}`,
  };
}
