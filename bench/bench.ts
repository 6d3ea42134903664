/**
 * `npm run bench`: everything that design and docs promise about speed and size, measured in one run on one broker, so that ratios mean
 * something. Figures go to stdout, what is going on to stderr. Method and figures: docs/performance.md.
 *
 * Sections that need the hub come first; the hub then stands still while the agent alone is measured.
 */
import { readFile } from 'node:fs/promises';

import { ComputeError, UsageError, errorText } from '../src/base/errors.ts';
import { describeConditions, loadNow } from './conditions.ts';
import { USAGE, readOptions } from './options.ts';
import type { BenchOptions } from './options.ts';
import type { Report } from './report.ts';
import type { BenchContext } from './sections/context.ts';
import { measureDirect } from './sections/direct.ts';
import { measureGlobus } from './sections/globus.ts';
import { measureHub } from './sections/hub.ts';
import { measureIdle } from './sections/idle.ts';
import { measureProfile } from './sections/profile.ts';
import { measureQueued } from './sections/queued.ts';
import { measureReconnect } from './sections/reconnect.ts';
import { measureSearch } from './sections/search.ts';
import { measureStart } from './sections/start.ts';
import { Site } from './site.ts';
import { markdownTable, terminalTable } from './table.ts';

/** From this load on a warning is due: somebody else uses the machine. */
const LOAD_QUIET_MAX = 0.5;
const EXIT_INTERRUPTED = 130;
const DIRECT_SECTIONS = ['echo', 'javascript', 'python', 'payload1MiB', 'journal'] as const;

/** Runs what was asked for. */
async function measure(options: BenchOptions): Promise<Report> {
  const begun = { date: new Date(), load: loadNow(), ms: performance.now() };
  const say = (text: string): void => {
    process.stderr.write(`${text}\n`);
  };
  if (begun.load > LOAD_QUIET_MAX) {
    say(
      `the load of this machine is ${begun.load}: absolute figures will say little, ratios something`,
    );
  }
  say('starting RabbitMQ, PostgreSQL and the hub');
  const site = await Site.open();
  const context: BenchContext = { site, options, say };
  const leave = (): void => {
    // Background agents would outlive us; what is being measured fails meanwhile, and nobody minds.
    const exit = (): void => {
      process.exit(EXIT_INTERRUPTED);
    };
    site.close().then(exit, exit);
  };
  process.once('SIGINT', leave).once('SIGTERM', leave).once('SIGHUP', leave);
  const wants = options.sections;
  try {
    const report: Omit<Report, 'conditions'> = {
      ...(wants.has('start') && { start: await measureStart(context) }),
      ...(wants.has('idle') && { idle: await measureIdle(context) }),
      ...(wants.has('hub') && { hub: await measureHub(context) }),
      ...(wants.has('search') && { search: await measureSearch(context) }),
      ...(DIRECT_SECTIONS.some((name) => wants.has(name)) && (await measureDirect(context))),
      ...(wants.has('reconnect') && { reconnect: await measureReconnect(context) }),
      ...(wants.has('queued') && { queued: await measureQueued(context) }),
      ...(wants.has('profile') && { profile: await measureProfile(context) }),
      ...(wants.has('globus') && { globus: await measureGlobus(context) }),
    };
    return { ...report, conditions: await describeConditions(site, options, begun) };
  } finally {
    await site.close();
  }
}

function show(report: Report, { output }: BenchOptions): string {
  switch (output) {
    case 'json':
      return JSON.stringify(report, null, 2);
    case 'markdown':
      return markdownTable(report);
    case 'table':
      return terminalTable(report);
  }
}

async function readReport(path: string): Promise<Report> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Report;
  } catch (error) {
    throw new UsageError(
      `--from ${path}: ${errorText(error)}. A file that --json wrote is needed.`,
      {
        cause: error,
      },
    );
  }
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const report =
    options.fromFile === undefined ? await measure(options) : await readReport(options.fromFile);
  process.stdout.write(`${show(report, options)}\n`);
}

try {
  await main();
} catch (error) {
  const isForPeople = error instanceof ComputeError;
  process.stderr.write(
    `${isForPeople ? error.message : String(error instanceof Error ? error.stack : error)}\n`,
  );
  process.exitCode = isForPeople ? error.exitCode : 1;
}
