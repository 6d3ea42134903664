/** What can be said about settings only when they are looked at together: contradictions, and what an operator should know. */
import { existsSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';

import type { ConfigProblem } from '../base/errors.ts';
import type { OptionOrigin } from './option-origin.ts';

/** A Python interpreter with dill and little else needs so much address space. */
const WORKER_MEMORY_MB_MIN = 128;

const LANGUAGES = [
  { key: 'javascript_threads', field: 'javascriptThreads', what: 'JavaScript functions' },
  { key: 'python_interpreters', field: 'pythonInterpreters', what: 'Python functions' },
] as const;

/** The settings that are looked at here. */
export interface CheckedSettings {
  readonly javascriptThreads: number;
  readonly pythonInterpreters: number;
  readonly python: string;
  readonly workerMemoryMb: number;
  readonly drainAt: string | undefined;
  readonly resumeAt: string | undefined;
  readonly batchScheduler: string | undefined;
}

/** Problems of settings that are right one by one. */
export function crossCheck(
  config: CheckedSettings,
  origins: readonly OptionOrigin[],
): ConfigProblem[] {
  const problem = (key: string, value: string | undefined, expected: string): ConfigProblem => ({
    key,
    source: origins.find((origin) => origin.key === key)?.source ?? 'default',
    ...(value !== undefined && { value }),
    expected,
  });
  const problems: ConfigProblem[] = [];
  const { javascriptThreads, pythonInterpreters, workerMemoryMb, python } = config;
  // Nobody has set both to 0 on purpose where a batch scheduler did: that is a notice.
  if (
    javascriptThreads + pythonInterpreters === 0 &&
    withheldLanguages(config, origins).length === 0
  ) {
    problems.push(
      problem(
        'python_interpreters',
        '0',
        'expected at least 1 here or in javascript_threads: nothing could run',
      ),
    );
  }
  if (workerMemoryMb > 0 && workerMemoryMb < WORKER_MEMORY_MB_MIN) {
    problems.push(
      problem(
        'worker_memory_mb',
        String(workerMemoryMb),
        `expected 0 for no limit, or at least ${WORKER_MEMORY_MB_MIN}: no interpreter could start`,
      ),
    );
  }
  const { drainAt, resumeAt } = config;
  if ((drainAt === undefined) !== (resumeAt === undefined)) {
    const [key, value, other] =
      drainAt === undefined
        ? ['resume_at', resumeAt, 'drain_at']
        : ['drain_at', drainAt, 'resume_at'];
    problems.push(
      problem(key, value, `expected ${other} as well: a maintenance window has two ends`),
    );
  }
  // A bare name that is not found is no problem: an endpoint may have no use for Python.
  if (python.includes('/') && !isAbsolute(python)) {
    problems.push(problem('python', python, 'expected an absolute path or a name on PATH'));
  } else if (isAbsolute(python) && !existsSync(python)) {
    problems.push(problem('python', python, 'there is no such file'));
  }
  return problems;
}

/** What the operator should know about settings that are right. `directory` is the endpoint's. */
export function noticesOf(
  config: CheckedSettings,
  origins: readonly OptionOrigin[],
  directory: string,
): readonly string[] {
  const withheld = withheldLanguages(config, origins);
  const [first] = withheld;
  if (first === undefined) {
    return [];
  }
  const isAll = config.javascriptThreads + config.pythonInterpreters === 0;
  const what = isAll ? 'tasks' : first.what;
  const keys = withheld.map(({ key }) => key).join(' and ');
  return [
    `No ${what} will run on this host: a batch scheduler is installed (${config.batchScheduler ?? ''}), so ` +
      `${keys} ${withheld.length > 1 ? 'are' : 'is'} 0 unless told otherwise. If the operators of this host allow it, ` +
      `write for instance "${first.key}: 2" into ${join(directory, 'config.yaml')} and restart the agent.`,
  ];
}

/** Languages that have no workers because of a batch scheduler, and not because somebody said so. */
function withheldLanguages(
  config: CheckedSettings,
  origins: readonly OptionOrigin[],
): (typeof LANGUAGES)[number][] {
  return config.batchScheduler === undefined
    ? []
    : LANGUAGES.filter(
        ({ key, field }) =>
          config[field] === 0 && origins.find((origin) => origin.key === key)?.isDefault === true,
      );
}
