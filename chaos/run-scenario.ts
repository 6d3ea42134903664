/**
 * Runs one scenario: agent, workload, disturbance, then the checker over the history, then the search for survivors.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { errorText, UnavailableError } from '../src/base/errors.ts';
import { AgentUnderTest } from './agent-under-test.ts';
import { Child } from './child.ts';
import { Scene } from './scene.ts';
import type { Scenario } from './scene.ts';
import { seededRandom } from './seeded-random.ts';
import type { Site } from './site.ts';
import { findSurvivors } from './survivors.ts';
import type { Verdict } from './verdict.ts';
import type { WorkloadPlan } from './workload-plan.ts';

const PROGRAMS = fileURLToPath(new URL('./', import.meta.url));
/** What a task takes on a busy machine, for the limit. */
const RUN_MS_PER_TASK = 100;
const CALM_MS = 120_000;
const WORKLOAD_GRACE_MS = 30_000;

/** How to run it. */
export interface RunOptions {
  readonly seed: number;
  readonly tasks: number;
  /** Time over which the tasks are submitted evenly. Without it there are tasks before, during and after the fault. */
  readonly submitMs?: number;
}

/** The report, as `--json` prints it. */
export interface ScenarioReport extends Omit<Verdict, 'problems'> {
  readonly scenario: string;
  readonly seed: number;
  /** Why it was not run here. */
  readonly skipped?: string;
  readonly survivors: number;
  /** Everything that must not be, in words. */
  readonly problems: readonly string[];
  readonly seconds: number;
  /** Where history and logs lie, unless they were removed. */
  readonly directory: string;
}

/** Whether a report has nothing to complain of. */
export function isReportClean(report: ScenarioReport): boolean {
  return report.problems.length === 0;
}

/** Runs a scenario on a site. */
export async function runScenario(
  site: Site,
  scenario: Scenario,
  options: RunOptions,
): Promise<ScenarioReport> {
  const begunAt = Date.now();
  const directory = join(site.directory, scenario.name);
  mkdirSync(directory, { mode: 0o700 });
  const prepared = scenario.prepare?.(directory);
  if (prepared !== undefined && 'skip' in prepared) {
    return { ...NOTHING, ...identify(scenario, options), skipped: prepared.skip, directory };
  }
  try {
    const agent = await AgentUnderTest.configure(
      site,
      directory,
      scenario.agent?.(directory) ?? {},
    );
    const disappointments = await attack(site, agent, scenario, options, directory);
    const verdict = await check(directory);
    const survivors = await findSurvivors(directory, agent.ports);
    return {
      ...verdict,
      ...identify(scenario, options),
      survivors: survivors.length,
      problems: [...verdict.problems, ...disappointments, ...survivors],
      seconds: (Date.now() - begunAt) / 1000,
      directory,
    };
  } finally {
    prepared?.undo();
  }
}

function identify(
  scenario: Scenario,
  { seed }: RunOptions,
): { readonly scenario: string; readonly seed: number } {
  return { scenario: scenario.name, seed };
}

/** Returns what else went wrong, in words. */
async function attack(
  site: Site,
  agent: AgentUnderTest,
  scenario: Scenario,
  options: RunOptions,
  directory: string,
): Promise<string[]> {
  const wrong: string[] = [];
  let workload: Child | undefined;
  try {
    agent.start();
    const endpointId = await agent.online();
    const plan = makePlan(site, endpointId, scenario, options, directory);
    workload = startWorkload(site, plan);
    const random = seededRandom(options.seed);
    const { tasks } = options;
    const scene = new Scene({ site, agent, endpointId, directory, random, tasks, workload });
    try {
      await scenario.disturb(scene);
    } catch (error) {
      wrong.push(`the disturbance failed: ${errorText(error)}`);
    }
    scene.release();
    wrong.push(...scene.disappointments);
    const { code, signal } = await workload.endsWithin(
      plan.limitMs + WORKLOAD_GRACE_MS,
      'the workload',
    );
    if (code !== 0) {
      wrong.push(`the workload ended with ${signal ?? code ?? 'nothing'}; see workload.log`);
    }
    if (agent.hasEnded && scenario.name !== 'two-agents') {
      wrong.push('the agent ended by itself; see agent.log');
    }
  } catch (error) {
    wrong.push(errorText(error));
  } finally {
    await workload?.kill();
    try {
      await agent.stop();
    } catch (error) {
      wrong.push(errorText(error));
    }
  }
  return wrong;
}

function makePlan(
  site: Site,
  endpointId: string,
  scenario: Scenario,
  { seed, tasks, submitMs = scenario.submitMs }: RunOptions,
  directory: string,
): WorkloadPlan {
  const waitMs = tasks * RUN_MS_PER_TASK + CALM_MS + (scenario.extraMs ?? 0);
  return {
    hubUrl: site.hubUrl,
    endpointId,
    directory,
    ...{ seed, tasks },
    pace: submitMs === undefined ? { kind: 'gated' } : { kind: 'even', ms: submitMs },
    deadlineMs: waitMs,
    limitMs: (submitMs ?? 0) + waitMs,
  };
}

function startWorkload(site: Site, plan: WorkloadPlan): Child {
  const path = join(plan.directory, 'plan.json');
  writeFileSync(path, `${JSON.stringify(plan, undefined, 2)}\n`);
  return Child.start({
    args: [process.execPath, '--enable-source-maps', join(PROGRAMS, 'workload.js'), path],
    env: {
      ...site.environment(plan.directory),
      OUTPOST_CLIENT_ID: site.credentials.id,
      OUTPOST_CLIENT_SECRET: site.credentials.secret,
    },
    cwd: plan.directory,
    logPath: join(plan.directory, 'workload.log'),
  });
}

/** Has the checker, a program of its own, judge the history. */
async function check(directory: string): Promise<Verdict> {
  const output = await new Promise<string>((resolve, reject) => {
    execFile(
      process.execPath,
      [join(PROGRAMS, 'checker.js'), directory],
      { maxBuffer: 64 * 1024 * 1024 },
      (error, stdout) => {
        // It exits with 1 when it found something; what it found stands in its output.
        if (stdout === '' && error !== null) {
          reject(new UnavailableError('START_FAILED', `the checker failed: ${error.message}`));
        } else {
          resolve(stdout);
        }
      },
    );
  });
  return JSON.parse(output) as Verdict;
}

const NOTHING: Omit<ScenarioReport, 'scenario' | 'seed' | 'directory'> = {
  submitted: 0,
  succeeded: 0,
  failedNamed: 0,
  lost: 0,
  late: 0,
  duplicatedExecutions: 0,
  retriedExecutions: 0,
  duplicatedResults: 0,
  wrongResults: 0,
  unnamedFailures: 0,
  recoverySeconds: null,
  failures: {},
  recoveries: [],
  survivors: 0,
  problems: [],
  seconds: 0,
};
