/**
 * The supervisor: starts broker, database, hub and agent as real processes, attacks them as a scenario says, and reports.
 *
 *   node build/chaos/supervisor.js --scenario NAME[,NAME…]|all [--seed N] [--tasks N] [--minutes N] [--jobs N] [--json] [--keep]
 *
 * One report a scenario, in the order in which they end; with --json each is a line. Exits with 1 when anything was found. Scenarios of
 * one run share broker, database and hub; whether these leave anything behind is looked at in the end. With --jobs, scenarios that leave
 * the shared servers in peace run beside each other: quicker, and no place to measure recovery.
 */
import { parseArgs } from 'node:util';

import { errorText } from '../src/base/errors.ts';
import { isReportClean, runScenario } from './run-scenario.ts';
import type { ScenarioReport } from './run-scenario.ts';
import { SCENARIOS } from './scenarios.ts';
import type { Scenario } from './scene.ts';
import { Site } from './site.ts';
import { findSurvivors } from './survivors.ts';

const TASKS_DEFAULT = 200;
const MINUTE_MS = 60_000;
const EXIT_USAGE = 64;

function usage(problem: string): never {
  const names = SCENARIOS.map(({ name, summary }) => `  ${name.padEnd(34)}${summary}`);
  process.stderr.write(
    `${problem}\nusage: npm run chaos -- --scenario NAME[,NAME…]|all [--seed N] [--tasks N] [--minutes N] [--jobs N] [--json] [--keep]\n${names.join('\n')}\n`,
  );
  process.exit(EXIT_USAGE);
}

function number(text: string | undefined, name: string): number | undefined {
  if (text !== undefined && !(Number(text) > 0)) {
    usage(`--${name} must be a number above 0, not "${text}"`);
  }
  return text === undefined ? undefined : Number(text);
}

function chosenScenarios(text: string | undefined): Scenario[] {
  if (text === undefined) {
    return usage('--scenario is missing');
  }
  const names = text === 'all' ? SCENARIOS.map(({ name }) => name) : text.split(',');
  return names.map(
    (name) =>
      SCENARIOS.find((scenario) => scenario.name === name) ?? usage(`no scenario "${name}"`),
  );
}

function parse(): {
  scenarios: Scenario[];
  seed: number;
  tasks: number;
  submitMs: number | undefined;
  jobs: number;
  json: boolean;
  keep: boolean;
} {
  try {
    const { values } = parseArgs({
      options: {
        scenario: { type: 'string' },
        seed: { type: 'string' },
        tasks: { type: 'string' },
        minutes: { type: 'string' },
        jobs: { type: 'string' },
        json: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
      },
    });
    const minutes = number(values.minutes, 'minutes');
    return {
      scenarios: chosenScenarios(values.scenario),
      seed: number(values.seed, 'seed') ?? 1 + Math.floor(Math.random() * 1e6),
      tasks: number(values.tasks, 'tasks') ?? TASKS_DEFAULT,
      submitMs: minutes === undefined ? undefined : minutes * MINUTE_MS,
      jobs: number(values.jobs, 'jobs') ?? 1,
      json: values.json,
      keep: values.keep,
    };
  } catch (error) {
    return usage(errorText(error));
  }
}

function print(report: ScenarioReport, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(report)}\n`);
    return;
  }
  const { scenario, seed, skipped, problems, failures, recoverySeconds } = report;
  if (skipped !== undefined) {
    process.stdout.write(`- ${scenario}: not run: ${skipped}\n`);
    return;
  }
  const named = Object.entries(failures).map(([code, count]) => `${count} × ${code}`);
  const recovery = recoverySeconds === null ? '' : `, recovered in ${recoverySeconds.toFixed(2)} s`;
  process.stdout.write(
    `${isReportClean(report) ? '✔' : '✘'} ${scenario} (seed ${seed}, ${report.seconds.toFixed(1)} s): ${report.submitted} submitted, ` +
      `${report.succeeded} succeeded, ${report.failedNamed} failed by name${named.length > 0 ? ` (${named.join(', ')})` : ''}, ` +
      `${report.lost} lost, ${report.duplicatedExecutions} run twice, ${report.duplicatedResults} told twice, ` +
      `${report.survivors} survivors${recovery}\n${problems.map((problem) => `    ${problem}\n`).join('')}`,
  );
}

/** First those that may run beside each other, so many at a time; then the others, one by one. */
async function inParallel(
  scenarios: readonly Scenario[],
  jobs: number,
  work: (scenario: Scenario) => Promise<void>,
): Promise<void> {
  const local = scenarios.filter(({ isLocal }) => isLocal && jobs > 1);
  const rest = scenarios.filter((scenario) => !local.includes(scenario));
  const worker = async (): Promise<void> => {
    for (let next = local.shift(); next !== undefined; next = local.shift()) {
      await work(next);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  for (const scenario of rest) {
    await work(scenario);
  }
}

async function main(): Promise<void> {
  const { scenarios, seed, tasks, submitMs, jobs, json, keep } = parse();
  const site = await Site.start();
  const { ports } = site;
  let isClean = true;
  try {
    const options = { seed, tasks, ...(submitMs === undefined ? {} : { submitMs }) };
    await inParallel(scenarios, jobs, async (scenario) => {
      const report = await runScenario(site, scenario, options);
      isClean = isClean && isReportClean(report);
      print(report, json);
    });
  } finally {
    await site.stop();
  }
  const survivors = await findSurvivors(site.directory, ports);
  for (const survivor of survivors) {
    process.stderr.write(`still there after everything was stopped: ${survivor}\n`);
  }
  isClean &&= survivors.length === 0;
  if (keep || !isClean) {
    process.stderr.write(`histories and logs: ${site.directory}\n`);
  } else {
    site.remove();
  }
  process.exitCode = isClean ? 0 : 1;
}

await main();
