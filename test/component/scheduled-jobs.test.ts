/** Jobs by the clock, with schedules of every second and the library's own timers. */
import assert from 'node:assert/strict';

import { ScheduledJobs } from '../../src/agent/scheduled-jobs.ts';
import type { JobReport, ScheduledJob } from '../../src/agent/scheduled-jobs.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { eventually } from '../support/eventually.ts';

const EVERY_SECOND = '* * * * * *';

const idle: ScheduledJob['run'] = async () => {
  await Promise.resolve();
  return undefined;
};

describe('scheduled jobs', function () {
  let jobs: ScheduledJobs;

  beforeEach(() => {
    jobs = new ScheduledJobs({ clock: systemClock, logger: silentLogger });
  });

  afterEach(async () => {
    await jobs.stop();
  });

  function job(run: ScheduledJob['run'], changes: Partial<ScheduledJob> = {}): ScheduledJob {
    return { name: 'work', schedule: EVERY_SECOND, limitMs: 5_000, run, ...changes };
  }

  function report(): JobReport {
    const [first] = jobs.reports;
    assert.ok(first !== undefined);
    return first;
  }

  it('run at their times, and say when they ran, what they did and when they run next', async () => {
    await jobs.schedule([job(async () => await Promise.resolve('swept'))]);
    assert.deepEqual(
      { ...report(), next_run: undefined },
      {
        name: 'work',
        schedule: EVERY_SECOND,
        last_run: null,
        outcome: null,
        detail: null,
        running: false,
        next_run: undefined,
      },
    );
    await eventually(() => {
      assert.equal(report().outcome, 'ok');
    });
    const { last_run: last, next_run: next, detail } = report();
    assert.equal(detail, 'swept');
    assert.ok(Date.parse(last ?? '') <= Date.now());
    assert.ok(Date.parse(next ?? '') > Date.parse(last ?? ''));
  });

  it('never overlap with themselves', async () => {
    let [atOnce, most, runs] = [0, 0, 0];
    await jobs.schedule([
      job(async () => {
        runs += 1;
        atOnce += 1;
        most = Math.max(most, atOnce);
        await new Promise((resolve) => {
          setTimeout(resolve, 1_600);
        });
        atOnce -= 1;
        return undefined;
      }),
    ]);
    await eventually(() => {
      assert.ok(runs >= 2);
    });
    assert.equal(most, 1);
  });

  it('are told to end at their limit, and what fails is tried again', async () => {
    let aborted = 0;
    await jobs.schedule([
      job(
        async (signal) =>
          await new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => {
              aborted += 1;
              reject(signal.reason as Error);
            });
          }),
        { limitMs: 100 },
      ),
      job(
        async () => {
          await Promise.resolve();
          throw new TypeError('broken');
        },
        { name: 'broken' },
      ),
    ]);
    await eventually(() => {
      assert.ok(aborted >= 2);
    });
    const [first, second] = jobs.reports;
    assert.equal(first?.outcome, 'timed-out');
    assert.match(first.detail ?? '', /longer than 0\.1 s/);
    assert.deepEqual([second?.outcome, second?.detail], ['failed', 'broken']);
  });

  it('keep what is known of their last run when the schedules change', async () => {
    const work = job(async () => await Promise.resolve('swept'));
    await jobs.schedule([work]);
    await eventually(() => {
      assert.equal(report().outcome, 'ok');
    });
    await jobs.schedule([{ ...work, schedule: '0 0 1 1 *' }]);
    const { outcome, schedule, next_run: next } = report();
    assert.deepEqual([outcome, schedule], ['ok', '0 0 1 1 *']);
    assert.equal(new Date(next ?? '').getMonth(), 0);
  });

  it('leave no timer behind when they are stopped', async () => {
    // Mocha's own timer for this test is the one that may be left.
    const timers = (): number =>
      process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
    await jobs.schedule([job(idle)]);
    await jobs.stop();
    assert.ok(timers() <= 1, `${timers()} timers`);
    await jobs.schedule([job(idle)]);
    assert.deepEqual(jobs.reports, []);
  });

  it('do not keep the process alive by one that hangs', async () => {
    const never = new Promise<undefined>(() => {
      // Never settled.
    });
    const hangs = async (): Promise<undefined> => {
      await never;
      return undefined;
    };
    await jobs.schedule([job(hangs, { limitMs: 600_000 })]);
    await eventually(() => {
      assert.equal(report().running, true);
    });
    await jobs.stop();
    const timers = process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
    assert.ok(timers <= 1, `${timers} timers`);
  });
});
