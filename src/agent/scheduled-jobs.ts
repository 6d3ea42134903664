/**
 * Runs what is periodic by the clock of the wall, as against by elapsed time. Which jobs there are is told by agent-jobs.ts.
 *
 * J1 A job never overlaps with itself: what is due while it runs is left out.
 * J2 A run is bounded: at its limit its signal is aborted and the run counts as timed out, whatever becomes of it.
 * J3 A run that was missed, because the machine slept or was too busy, is made up for once.
 * J4 Jobs do not keep the process alive, and after `stop` none begins.
 */
import { schedule } from 'node-cron';
import type { Logger as CronLogger, ScheduledTask } from 'node-cron';

import type { Clock } from '../base/clock.ts';
import { withDeadline } from '../base/deadline.ts';
import { UnavailableError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { detach } from '../base/logger.ts';
import { nextRun } from './cron-times.ts';

/** A job. */
export interface ScheduledJob {
  readonly name: string;
  /** Cron expression, of five fields or six. */
  readonly schedule: string;
  readonly limitMs: number;
  /** Returns what it did, in words; undefined when there was nothing to do. */
  readonly run: (signal: AbortSignal) => Promise<string | undefined>;
}

/** A job as `agent status` shows it. */
export interface JobReport {
  readonly name: string;
  readonly schedule: string;
  /** ISO 8601; null before the first run of this process. */
  readonly last_run: string | null;
  readonly outcome: 'ok' | 'failed' | 'timed-out' | null;
  /** What it did or why it failed, in words. */
  readonly detail: string | null;
  readonly running: boolean;
  readonly next_run: string | null;
}

interface Entry {
  readonly job: ScheduledJob;
  readonly task: ScheduledTask;
  last: Pick<JobReport, 'last_run' | 'outcome' | 'detail'>;
}

const NEVER = { last_run: null, outcome: null, detail: null } as const;

/** Settings of the jobs. */
export interface ScheduledJobsOptions {
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The jobs of one agent. */
export class ScheduledJobs {
  readonly #options: ScheduledJobsOptions;
  #entries: Entry[] = [];
  /** Runs that have not ended, by the name of their job (J1). */
  readonly #running = new Map<string, AbortController>();
  #isStopped = false;

  constructor(options: ScheduledJobsOptions) {
    this.#options = options;
  }

  /** Replaces the jobs; one that runs may end, and one that keeps its name keeps what is known of its last run. */
  async schedule(jobs: readonly ScheduledJob[]): Promise<void> {
    const former = this.#entries;
    this.#entries = this.#isStopped
      ? []
      : jobs.map((job) => ({
          job,
          task: this.#task(job),
          last: former.find((entry) => entry.job.name === job.name)?.last ?? NEVER,
        }));
    for (const { task } of former) {
      await task.destroy();
    }
  }

  /** For `status`. */
  get reports(): JobReport[] {
    return this.#entries.map(({ job, last }) => ({
      name: job.name,
      schedule: job.schedule,
      ...last,
      running: this.#running.has(job.name),
      next_run: nextRun(job.schedule)?.toISOString() ?? null,
    }));
  }

  /** Ends the schedules, and tells what runs to end. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const controller of this.#running.values()) {
      controller.abort(new UnavailableError('TIMED_OUT', 'the agent is stopping'));
    }
    await this.schedule([]);
  }

  #task(job: ScheduledJob): ScheduledTask {
    const run = async (): Promise<void> => {
      await this.#run(job.name);
    };
    const task = schedule(job.schedule, run, {
      name: job.name,
      unref: true,
      logger: this.#cronLogger(job.name),
    });
    task.on('execution:missed', run);
    return task;
  }

  async #run(name: string): Promise<void> {
    const { clock, logger } = this.#options;
    const entry = this.#entries.find(({ job }) => job.name === name);
    if (entry === undefined || this.#running.has(name)) {
      return;
    }
    const { job } = entry;
    const controller = new AbortController();
    this.#running.set(name, controller);
    const startedAt = new Date(clock.now()).toISOString();
    const note = (outcome: JobReport['outcome'], detail: string | null): void => {
      // By its name: the schedules may have been replaced while it ran.
      const now = this.#entries.find((one) => one.job.name === name);
      if (now !== undefined) {
        now.last = { last_run: startedAt, outcome, detail };
      }
    };
    const work = job.run(controller.signal);
    const ended = work.finally(() => {
      this.#running.delete(name);
    });
    detach(logger, 'a job after its limit', ended.catch(() => undefined)); // prettier-ignore
    try {
      const detail = await withDeadline(inBackground(clock), job.limitMs, work, () => {
        const error = new UnavailableError(
          'TIMED_OUT',
          `it took longer than ${job.limitMs / 1000} s`,
        );
        controller.abort(error);
        return error;
      });
      note('ok', detail ?? null);
      logger.debug({ job: name, detail }, 'a job has run');
    } catch (error) {
      note(controller.signal.aborted ? 'timed-out' : 'failed', errorText(error));
      logger.warn({ job: name, reason: errorText(error) }, 'a job failed, trying again next time');
    }
  }

  /** The library would write to the console. */
  #cronLogger(job: string): CronLogger {
    const { logger } = this.#options;
    const tell = (message: string | Error): void => {
      logger.debug({ job, reason: errorText(message) }, 'the scheduler has something to say');
    };
    return { info: tell, warn: tell, error: tell, debug: tell };
  }
}

/** A limit that is far away does not keep the process alive (J4). */
function inBackground(clock: Clock): Clock {
  return {
    ...clock,
    after: (delayMs, callback) => clock.after(delayMs, callback, { background: true }),
  };
}
