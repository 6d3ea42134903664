/**
 * Tells whether a batch scheduler is installed on this host: it is then most likely a login node that many people share, and
 * running their work on it is for its operators to allow. Cheap on purpose: files are looked at, nothing is run.
 */
import { existsSync } from 'node:fs';
import { delimiter } from 'node:path';

import type { Environment } from './config-sources.ts';
import { executablesNamed } from './executables.ts';

/** How jobs are submitted to Slurm; PBS, Grid Engine and Torque; LSF; HTCondor. */
const SUBMIT_COMMANDS = ['sbatch', 'qsub', 'bsub', 'condor_submit'] as const;

/** Where to look. */
export interface SchedulerPlaces {
  /** Beside those of PATH, which is short for a service: the answer must not depend on who starts the agent. */
  readonly directories: readonly string[];
  /** Slurm's configuration, where its commands come with a module that is not loaded. */
  readonly slurmDirectory: string;
}

const USUAL_PLACES: SchedulerPlaces = {
  directories: ['/usr/local/bin', '/usr/bin'],
  slurmDirectory: '/etc/slurm',
};

/** What tells that there is a batch scheduler, as a path; undefined when there is none. */
export function findBatchScheduler(
  environment: Environment,
  { directories, slurmDirectory }: SchedulerPlaces = USUAL_PLACES,
): string | undefined {
  const path = [environment['PATH'] ?? '', ...directories].join(delimiter);
  for (const command of SUBMIT_COMMANDS) {
    const [found] = executablesNamed(command, path);
    if (found !== undefined) {
      return found;
    }
  }
  return existsSync(slurmDirectory) ? slurmDirectory : undefined;
}
