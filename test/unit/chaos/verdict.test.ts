/** The checker is the judge of everything else, so it is tested first: each violation, alone, must be found out, and a clean history must pass. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { HISTORY_FILES, HistoryWriter, readHistory } from '../../../chaos/history.ts';
import type {
  Answer,
  FaultEvent,
  History,
  Marker,
  Outcome,
  WorkloadRecord,
} from '../../../chaos/history.ts';
import { isClean, judge } from '../../../chaos/verdict.ts';
import type { Verdict } from '../../../chaos/verdict.ts';

const DEADLINE_MS = 10_000;

function value(key: number): Outcome {
  return { status: 'value', value: JSON.stringify({ key }) };
}

function failure(code: string): Outcome {
  return { status: 'failure', code, message: `${code} happened` };
}

/** A history that is made step by step; times are milliseconds from 0. */
class Story {
  readonly workload: WorkloadRecord[] = [];
  readonly events: FaultEvent[] = [];
  readonly markers: Marker[] = [];

  submit(key: number, at = 0, maxRetries = 0): this {
    this.workload.push(
      {
        type: 'submitted',
        ...{ key, at, maxRetries, language: 'python', durationMs: 10 },
        deadlineAt: at + DEADLINE_MS,
      },
      { type: 'accepted', key, at: at + 5, taskId: `task-${key}` },
    );
    return this;
  }

  run(key: number, at = 50): this {
    this.markers.push({ key, at, pid: 100, nonce: `nonce-${this.markers.length}` });
    return this;
  }

  settle(key: number, at = 100, outcome = value(key)): this {
    this.workload.push({ type: 'settled', key, at, taskId: `task-${key}`, outcome });
    return this;
  }

  answer(key: number, at: number, outcome: Answer['outcome'] = value(key), askedAt = at - 1): this {
    this.workload.push({ type: 'answer', askedAt, at, taskId: `task-${key}`, outcome });
    return this;
  }

  event(type: FaultEvent['type'], fault: string, at: number): this {
    this.events.push({ type, fault, at });
    return this;
  }

  get history(): History {
    return this;
  }

  get verdict(): Verdict {
    return judge(this);
  }
}

/** A task as it should be. */
function good(story: Story, key: number): Story {
  return story.submit(key).run(key).settle(key).answer(key, 200).answer(key, 300);
}

/** Asserts that exactly these counts speak against a history. */
function assertFound(verdict: Verdict, expected: Partial<Record<keyof Verdict, number>>): void {
  const { lost, late, duplicatedExecutions, duplicatedResults, wrongResults, unnamedFailures } =
    verdict;
  const none = { lost: 0, late: 0, duplicatedExecutions: 0, duplicatedResults: 0 };
  assert.deepEqual(
    { lost, late, duplicatedExecutions, duplicatedResults, wrongResults, unnamedFailures },
    { ...none, wrongResults: 0, unnamedFailures: 0, ...expected },
    verdict.problems.join('\n'),
  );
  assert.equal(isClean(verdict), Object.keys(expected).length === 0);
}

describe('the checker of the chaos runs', () => {
  it('has nothing to say about a history in which every task ran and was settled once', () => {
    const story = good(good(new Story(), 1), 2);
    story.submit(3).settle(3, 100, failure('AGENT_RESTARTED'));
    assertFound(story.verdict, {});
    const { submitted, succeeded, failedNamed, failures } = story.verdict;
    assert.deepEqual(
      { submitted, succeeded, failedNamed },
      { submitted: 3, succeeded: 2, failedNamed: 1 },
    );
    assert.deepEqual(failures, { AGENT_RESTARTED: 1 });
  });

  it('finds a task that was lost', () => {
    assertFound(good(new Story(), 1).submit(2).run(2).verdict, { lost: 1 });
  });

  it('finds a task that ran twice', () => {
    assertFound(good(new Story(), 1).run(1, 60).verdict, { duplicatedExecutions: 1 });
  });

  it('allows as many further executions as max_retries does, and no more', () => {
    const story = new Story().submit(1, 0, 2).run(1, 10).run(1, 20).run(1, 30).settle(1);
    assertFound(story.verdict, {});
    assert.equal(story.verdict.retriedExecutions, 2);
    assertFound(story.run(1, 40).verdict, { duplicatedExecutions: 1 });
  });

  it('finds a task that was settled after its deadline', () => {
    const story = new Story()
      .submit(1)
      .run(1)
      .settle(1, DEADLINE_MS + 1);
    assertFound(story.verdict, { late: 1 });
    assertFound(new Story().submit(1).run(1).settle(1, DEADLINE_MS).verdict, {});
  });

  it('finds a result that changed after it was terminal', () => {
    const story = good(new Story(), 1).answer(1, 400, failure('WORKER_EXITED'));
    assertFound(story.verdict, { duplicatedResults: 1 });
    assert.match(story.verdict.problems[0] ?? '', /task-1.*WORKER_EXITED/);
  });

  it('finds an answer that says another thing than the future', () => {
    const story = new Story()
      .submit(1)
      .run(1)
      .settle(1, 100, failure('AGENT_RESTARTED'))
      .answer(1, 200);
    assertFound(story.verdict, { duplicatedResults: 1 });
  });

  it('finds a terminal task of which the API says later that it has not ended', () => {
    assertFound(good(new Story(), 1).answer(1, 400, { status: 'pending' }).verdict, {
      duplicatedResults: 1,
    });
  });

  it('allows an answer that crossed the result on its way', () => {
    const story = new Story()
      .submit(1)
      .run(1)
      .settle(1, 100)
      .answer(1, 120, { status: 'pending' }, 90);
    assertFound(story.verdict, {});
  });

  it('finds a future that was settled twice', () => {
    assertFound(good(new Story(), 1).settle(1, 150).verdict, { duplicatedResults: 1 });
  });

  it('allows LOST to become a real result once, and not a second time', () => {
    const story = new Story().submit(1).run(1).settle(1, 100, failure('LOST')).answer(1, 200);
    assertFound(story.verdict, {});
    story.answer(1, 300, failure('LOST'));
    assertFound(story.verdict, { duplicatedResults: 1 });
  });

  it('finds a value that belongs to another task, and one for which nothing ran', () => {
    assertFound(good(new Story(), 1).submit(2).run(2).settle(2, 100, value(1)).verdict, {
      wrongResults: 1,
    });
    assertFound(new Story().submit(1).settle(1).verdict, { wrongResults: 1 });
    assertFound(good(new Story(), 1).run(7).verdict, { wrongResults: 1 });
  });

  it('does not take a failure that names nothing for a named one', () => {
    for (const code of ['', 'INVARIANT', 'RemoteExecutionError']) {
      assertFound(new Story().submit(1).run(1).settle(1, 100, failure(code)).verdict, {
        unnamedFailures: 1,
      });
    }
  });

  it('measures recovery up to the first value of a task that began after the fault', () => {
    const story = new Story()
      .event('fault', 'agent-kill', 1_000)
      .event('lifted', 'agent-kill', 2_000);
    // Was on its way when the fault came.
    story.submit(1).run(1, 900).settle(1, 2_100);
    // Failed by name: no value.
    story.submit(2).run(2, 950).settle(2, 2_200, failure('AGENT_RESTARTED'));
    story.submit(3, 1_500).run(3, 2_500).settle(3, 3_500);
    // Submitted afterwards.
    story.submit(4, 2_600).run(4, 2_700).settle(4, 2_800);
    assert.equal(story.verdict.recoverySeconds, 1.5);
    assert.equal(good(new Story(), 1).verdict.recoverySeconds, null);
  });
});

describe('the files of a history', () => {
  let directory = '';

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'outpost-history-'));
  });

  afterEach(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  it('hold what was written, and a line that a kill cut short does not count', () => {
    const { workload, events } = good(new Story(), 1).event('fault', 'hub-kill', 5);
    new HistoryWriter<WorkloadRecord>(join(directory, HISTORY_FILES.workload)).write(...workload);
    new HistoryWriter<FaultEvent>(join(directory, HISTORY_FILES.events)).write(...events);
    writeFileSync(join(directory, HISTORY_FILES.markers), '1 100 abcdef 50\n1 10');
    const history = readHistory(directory);
    assert.deepEqual(history.workload, workload);
    assert.deepEqual(history.events, events);
    assert.deepEqual(history.markers, [{ key: 1, pid: 100, nonce: 'abcdef', at: 50 }]);
  });

  it('are refused when they hold something else', () => {
    writeFileSync(join(directory, HISTORY_FILES.markers), 'garbage\n');
    assert.throws(() => readHistory(directory), /not a marker/);
  });
});
