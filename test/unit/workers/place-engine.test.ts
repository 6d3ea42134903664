import assert from 'node:assert/strict';

import type { Clock } from '../../../src/base/clock.ts';
import type {
  AbortReason,
  Place,
  PlaceListener,
  Settle,
  TaskOutcome,
  WorkerTask,
} from '../../../src/workers/engine.ts';
import { PlaceEngine } from '../../../src/workers/place-engine.ts';

/** A worker that does what the test says. */
class ScriptedPlace implements Place {
  readonly listener: PlaceListener;
  readonly ran: string[] = [];
  settle: Settle | undefined;
  aborted: AbortReason | undefined;

  constructor(listener: PlaceListener) {
    this.listener = listener;
  }

  start(): void {
    // The test decides when it is ready.
  }

  run(task: WorkerTask, settle: Settle): void {
    this.ran.push(task.nonce);
    this.settle = settle;
  }

  abort(reason: AbortReason): void {
    this.aborted ??= reason;
  }

  kill(): void {
    this.aborted ??= 'AGENT_STOPPED';
  }
}

class TurnedClock implements Clock {
  timers: { delayMs: number; callback: () => void }[] = [];
  now = (): number => 0;
  monotonicMs = (): number => 0;
  after = (delayMs: number, callback: () => void): { cancel: () => void } => {
    const timer = { delayMs, callback };
    this.timers.push(timer);
    return {
      cancel: (): void => {
        this.timers = this.timers.filter((other) => other !== timer);
      },
    };
  };

  fire(): void {
    for (const { callback } of this.timers.splice(0)) {
      callback();
    }
  }
}

const RESULT: TaskOutcome = { kind: 'result', failed: false, body: Buffer.alloc(0) };
const LOST: TaskOutcome = {
  kind: 'failed',
  code: 'WORKER_EXITED',
  message: 'gone',
  workerLost: true,
};

function build(size: number): {
  engine: PlaceEngine;
  places: ScriptedPlace[];
  clock: TurnedClock;
  degraded: string[];
  outcomes: Record<string, string>;
  submit: (nonce: string, timeoutMs?: number) => void;
} {
  const places: ScriptedPlace[] = [];
  const degraded: string[] = [];
  const outcomes: Record<string, string> = {};
  const clock = new TurnedClock();
  const engine = new PlaceEngine({
    language: 'python',
    size,
    clock,
    listener: {
      onPlacesChanged: () => undefined,
      onDegraded: (_language, reason) => degraded.push(reason),
      onQuarantined: () => undefined,
    },
    createPlace: (listener) => {
      const place = new ScriptedPlace(listener);
      places.push(place);
      return place;
    },
  });
  const submit = (nonce: string, timeoutMs?: number): void => {
    const task = {
      taskId: nonce,
      nonce,
      body: Buffer.alloc(0),
      ...(timeoutMs !== undefined && { timeoutMs }),
    };
    engine.submit(task, (outcome) => {
      assert.equal(outcomes[nonce], undefined, 'settled twice');
      outcomes[nonce] = outcome.kind === 'result' ? 'result' : outcome.code;
    });
  };
  return { engine, places, clock, degraded, outcomes, submit };
}

const failStart = (place: ScriptedPlace | undefined, hopeless = false): void => {
  place?.listener.onLost({ reason: 'no luck', hopeless });
};

describe('place engine', () => {
  it('gives a freed place the longest waiting task', () => {
    const { engine, places, outcomes, submit } = build(1);
    engine.start();
    places[0]?.listener.onReady();
    ['a', 'b', 'c'].forEach((nonce) => {
      submit(nonce);
    });
    assert.deepEqual(places[0]?.ran, ['a']);
    places[0].settle?.(RESULT);
    assert.deepEqual(places[0].ran, ['a', 'b']);
    places[0].settle?.(RESULT);
    assert.deepEqual(outcomes, { a: 'result', b: 'result' });
    assert.equal(engine.taskCount, 1);
  });

  it('replaces a lost place and hands it what waits', () => {
    const { engine, places, outcomes, submit } = build(1);
    engine.start();
    places[0]?.listener.onReady();
    submit('a');
    submit('b');
    places[0]?.settle?.(LOST);
    places[0]?.listener.onLost();
    assert.equal(engine.placeCount, 0);
    assert.equal(places.length, 2);
    places[1]?.listener.onReady();
    assert.deepEqual(places[1]?.ran, ['b']);
    assert.deepEqual(outcomes, { a: 'WORKER_EXITED' });
  });

  it('opens the breaker after three failed starts and fails what waits with the reason', () => {
    const { engine, places, degraded, outcomes, submit } = build(1);
    engine.start();
    submit('a');
    failStart(places[0]);
    failStart(places[1]);
    assert.deepEqual(degraded, []);
    failStart(places[2]);
    assert.deepEqual(degraded, ['no luck']);
    assert.equal(places.length, 3);
    submit('b');
    assert.deepEqual(outcomes, { a: 'WORKER_START_FAILED', b: 'WORKER_START_FAILED' });
  });

  it('opens the breaker at once when trying again is hopeless', () => {
    const { engine, places, degraded } = build(2);
    engine.start();
    failStart(places[0], true);
    assert.deepEqual(degraded, ['no luck']);
    assert.equal(places.length, 2);
  });

  it('tries one start later, and fills every place once it succeeds', () => {
    const { engine, places, clock, degraded, outcomes, submit } = build(2);
    engine.start();
    failStart(places[0], true);
    failStart(places[1], true);
    clock.fire();
    assert.equal(places.length, 3);
    failStart(places[2], true);
    assert.equal(degraded.length, 1);
    clock.fire();
    places[3]?.listener.onReady();
    assert.equal(places.length, 5);
    submit('a');
    places[3]?.settle?.(RESULT);
    assert.deepEqual(outcomes, { a: 'result' });
  });

  it('asks the place to end a task at its limit, and arms no timer without one', () => {
    const { engine, places, clock, submit } = build(2);
    engine.start();
    places.forEach((place) => {
      place.listener.onReady();
    });
    submit('a');
    assert.equal(clock.timers.length, 0);
    submit('b', 50);
    assert.equal(clock.timers[0]?.delayMs, 50);
    clock.fire();
    assert.deepEqual(
      places.map((place) => place.aborted),
      ['TASK_TIMED_OUT', undefined],
    );
  });

  it('stops only when every place is gone, and settles everything', async () => {
    const { engine, places, outcomes, submit } = build(1);
    engine.start();
    places[0]?.listener.onReady();
    submit('running');
    submit('waiting');
    const stopping = engine.stop();
    assert.deepEqual(outcomes, { waiting: 'AGENT_STOPPED' });
    assert.equal(places[0]?.aborted, 'AGENT_STOPPED');
    places[0].settle?.({ kind: 'failed', code: 'AGENT_STOPPED', message: '', workerLost: false });
    places[0].listener.onLost();
    await stopping;
    submit('late');
    assert.deepEqual(outcomes, {
      waiting: 'AGENT_STOPPED',
      running: 'AGENT_STOPPED',
      late: 'AGENT_STOPPED',
    });
    assert.equal(places.length, 1);
  });
});
