import assert from 'node:assert/strict';

import type { Clock } from '../../../src/base/clock.ts';
import { UnavailableError } from '../../../src/base/errors.ts';
import type {
  AbortReason,
  Place,
  PlaceListener,
  Settle,
  TaskOutcome,
  WorkerTask,
} from '../../../src/workers/engine.ts';
import { PlaceEngine } from '../../../src/workers/place-engine.ts';
import { SEAT_TASKS_MAX } from '../../../src/workers/seat.ts';

/** A worker that does what the test says. */
class ScriptedPlace implements Place {
  readonly listener: PlaceListener;
  readonly ran: string[] = [];
  /** Given ahead of time and not begun. */
  readonly ahead: { nonce: string; settle: Settle }[] = [];
  canReclaim = true;
  isEnding = false;
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

  runAhead(task: WorkerTask, settle: Settle): void {
    this.ahead.push({ nonce: task.nonce, settle });
  }

  reclaim(): boolean {
    return this.ahead.pop() !== undefined;
  }

  /** Ends the running task and begins the next. */
  goOn(): void {
    const { settle } = this;
    const next = this.ahead.shift();
    if (next !== undefined) {
      this.ran.push(next.nonce);
    }
    this.settle = next?.settle;
    settle?.(RESULT);
  }

  abort(reason: AbortReason): void {
    this.aborted ??= reason;
    this.isEnding = true;
  }

  kill(): void {
    this.aborted ??= 'AGENT_STOPPED';
  }
}

class TurnedClock implements Clock {
  timers: { delayMs: number; callback: () => void }[] = [];
  now = (): number => 0;
  nowMs = 0;
  monotonicMs = (): number => this.nowMs;
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
  begun: string[];
  outcomes: Record<string, string>;
  submit: (nonce: string, timeoutMs?: number) => void;
  /** A task that may be given ahead of time. */
  submitShort: (nonce: string) => void;
  /** From now on no worker can be made, for this reason. */
  hinder: (reason: string | undefined) => void;
} {
  let obstacle: string | undefined;
  const places: ScriptedPlace[] = [];
  const degraded: string[] = [];
  const begun: string[] = [];
  const outcomes: Record<string, string> = {};
  const clock = new TurnedClock();
  const engine = new PlaceEngine({
    language: 'python',
    size,
    clock,
    listener: {
      onBegin: ({ nonce }) => begun.push(nonce),
      onPlacesChanged: () => undefined,
      onDegraded: (_language, reason) => degraded.push(reason),
      onQuarantined: () => undefined,
    },
    createPlace: (listener) => {
      if (obstacle !== undefined) {
        throw new UnavailableError('START_FAILED', obstacle);
      }
      const place = new ScriptedPlace(listener);
      places.push(place);
      return place;
    },
  });
  const submitShort = (nonce: string): void => {
    submitWith(nonce, { cell: 1 });
  };
  const submit = (nonce: string, timeoutMs?: number): void => {
    submitWith(nonce, timeoutMs === undefined ? {} : { timeoutMs });
  };
  const submitWith = (nonce: string, more: Partial<WorkerTask>): void => {
    const task = { taskId: nonce, nonce, body: Buffer.alloc(0), ...more };
    engine.submit(task, (outcome) => {
      assert.equal(outcomes[nonce], undefined, 'settled twice');
      outcomes[nonce] = outcome.kind === 'result' ? 'result' : outcome.code;
    });
  };
  const hinder = (reason: string | undefined): void => {
    obstacle = reason;
  };
  return { engine, places, clock, degraded, begun, outcomes, submit, submitShort, hinder };
}

const failStart = (place: ScriptedPlace | undefined, hopeless = false): void => {
  place?.listener.onLost({ reason: 'no luck', hopeless });
};

describe('place engine', () => {
  it('tells when a task begins, and gives back what has not', () => {
    const { engine, places, begun, outcomes, submit } = build(1);
    engine.start();
    submit('a');
    assert.deepEqual(begun, []);
    places[0]?.listener.onReady();
    submit('b');
    submit('c');
    assert.deepEqual(begun, ['a']);
    assert.deepEqual(engine.recall(), ['b', 'c']);
    assert.equal(engine.taskCount, 1);
    places[0]?.settle?.(RESULT);
    assert.deepEqual(outcomes, { a: 'result' });
    assert.deepEqual(begun, ['a']);
  });

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

  it('survives that a worker cannot even be made, and goes on when one can', () => {
    const { engine, places, clock, degraded, outcomes, submit, hinder } = build(1);
    engine.start();
    places[0]?.listener.onReady();
    submit('a');
    submit('b');
    hinder('no space left on device');
    places[0]?.settle?.(LOST);
    places[0]?.listener.onLost();
    assert.deepEqual(outcomes, { a: 'WORKER_EXITED', b: 'WORKER_START_FAILED' });
    assert.match(degraded.join(), /^a python worker cannot be started: no space left on device$/);
    clock.fire();
    assert.equal(places.length, 1);
    hinder(undefined);
    clock.fire();
    places[1]?.listener.onReady();
    submit('c');
    assert.deepEqual(places[1]?.ran, ['c']);
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

  describe('gives tasks ahead of time', () => {
    it('some, and goes on feeding the place when half of them are over', () => {
      const { engine, places, begun, outcomes, submitShort } = build(1);
      engine.start();
      places[0]?.listener.onReady();
      const nonces = Array.from({ length: 2 * SEAT_TASKS_MAX }, (_, index) => `t${index}`);
      nonces.forEach(submitShort);
      assert.deepEqual(places[0]?.ran, ['t0']);
      const ahead = (): string[] | undefined => places[0]?.ahead.map(({ nonce }) => nonce);
      assert.deepEqual(ahead(), nonces.slice(1, SEAT_TASKS_MAX));
      places[0].goOn();
      assert.deepEqual(ahead(), nonces.slice(2, SEAT_TASKS_MAX));
      for (let left = SEAT_TASKS_MAX / 2 - 1; left > 0; left -= 1) {
        places[0].goOn();
      }
      assert.equal(ahead()?.length, SEAT_TASKS_MAX - 1);
      for (let left = nonces.length - SEAT_TASKS_MAX / 2; left > 0; left -= 1) {
        places[0].goOn();
      }
      assert.deepEqual(Object.keys(outcomes), nonces);
      // The others are marked by the worker.
      assert.deepEqual(begun, ['t0']);
      assert.equal(engine.taskCount, 0);
    });

    it('the same number to every place', () => {
      const { engine, places, submitShort } = build(2);
      engine.start();
      places.forEach((place) => {
        place.listener.onReady();
      });
      ['a', 'b', 'c', 'd', 'e', 'f'].forEach(submitShort);
      assert.deepEqual(
        places.map(({ ahead }) => ahead.length),
        [2, 2],
      );
    });

    it('but none that has a limit, and none to a place that cannot give back', () => {
      const { engine, places, submit, submitShort } = build(1);
      engine.start();
      places[0]?.listener.onReady();
      submitShort('a');
      submit('b', 1000);
      submitShort('c');
      assert.deepEqual(places[0]?.ahead, []);
      const other = build(1);
      other.engine.start();
      other.places.forEach((place) => {
        place.canReclaim = false;
        place.listener.onReady();
      });
      other.submitShort('a');
      other.submitShort('b');
      assert.deepEqual(other.places[0]?.ahead, []);
    });

    it('and a place that frees takes over what stands behind a longer task', () => {
      const { engine, places, clock, submitShort } = build(2);
      engine.start();
      places.forEach((place) => {
        place.listener.onReady();
      });
      ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j'].forEach(submitShort);
      const [first, second] = places;
      assert.ok(first !== undefined && second !== undefined);
      const stuck = first.ahead.map(({ nonce }) => nonce);
      assert.equal(stuck.length, 4);
      clock.nowMs = 1000;
      for (let left = 9; left > 0; left -= 1) {
        second.goOn();
      }
      assert.equal(second.ran.length, 9);
      assert.equal(first.ran.length, 1);
      assert.ok(stuck.every((nonce) => second.ran.includes(nonce)));
      assert.equal(engine.taskCount, 1);
    });

    it('and none to a worker that may still come upon a task that was taken back', () => {
      const { engine, places, submitShort } = build(1);
      engine.start();
      const place = places[0];
      place?.listener.onReady();
      ['a', 'b'].forEach(submitShort);
      engine.recall();
      submitShort('c');
      submitShort('d');
      assert.deepEqual(place?.ahead, []);
      place.goOn();
      assert.deepEqual(place.ran, ['a', 'c']);
      assert.deepEqual(place.ahead, []);
      // Whatever was sent before c has been passed.
      place.goOn();
      ['e', 'f'].forEach(submitShort);
      assert.deepEqual(place.ran, ['a', 'c', 'd']);
      assert.equal(place.ahead.length, 2);
    });

    it('and hands what a lost worker had not begun to the next one, in order', () => {
      const { engine, places, outcomes, submitShort } = build(1);
      engine.start();
      places[0]?.listener.onReady();
      ['a', 'b', 'c'].forEach(submitShort);
      places[0]?.settle?.(LOST);
      places[0]?.listener.onLost();
      places[1]?.listener.onReady();
      assert.deepEqual(places[1]?.ran, ['b']);
      places[1].goOn();
      assert.deepEqual(places[1].ran, ['b', 'c']);
      assert.deepEqual(outcomes, { a: 'WORKER_EXITED', b: 'result' });
    });

    it('and takes them back when a task before them is cancelled', () => {
      const { engine, places, outcomes, submitShort } = build(1);
      engine.start();
      places[0]?.listener.onReady();
      ['a', 'b', 'c'].forEach(submitShort);
      assert.equal(engine.cancel('b'), true);
      assert.deepEqual(outcomes, { b: 'TASK_CANCELLED' });
      assert.equal(engine.cancel('a'), true);
      assert.equal(places[0]?.aborted, 'TASK_CANCELLED');
      assert.deepEqual(places[0].ahead, []);
      assert.deepEqual(engine.recall(), ['c']);
    });

    it('and none to a worker that is being ended, also when its result comes after all', () => {
      const { engine, places, submitShort } = build(1);
      engine.start();
      const [place] = places;
      assert.ok(place !== undefined);
      place.listener.onReady();
      submitShort('a');
      engine.cancel('a');
      ['b', 'c'].forEach(submitShort);
      assert.deepEqual(place.ahead, []);
      place.settle?.(RESULT);
      assert.deepEqual(place.ran, ['a']);
      place.listener.onLost();
      places[1]?.listener.onReady();
      assert.deepEqual(places[1]?.ran, ['b']);
    });

    it('and none to an idle worker that has ended and is not gone yet', () => {
      const { engine, places, submitShort } = build(1);
      engine.start();
      const [place] = places;
      assert.ok(place !== undefined);
      place.listener.onReady();
      place.isEnding = true;
      submitShort('a');
      assert.deepEqual(place.ran, []);
      place.listener.onLost();
      places[1]?.listener.onReady();
      assert.deepEqual(places[1]?.ran, ['a']);
    });

    it('and a task is cancelled that the worker begins before the result of the one before it is read', () => {
      const { engine, places, submitShort } = build(1);
      engine.start();
      const [place] = places;
      place?.listener.onReady();
      ['a', 'b'].forEach(submitShort);
      const ahead = place?.ahead.splice(0);
      engine.cancel('b');
      assert.equal(place?.aborted, undefined);
      place?.settle?.(RESULT);
      assert.equal(place?.aborted, 'TASK_CANCELLED');
      assert.equal(ahead?.length, 1);
    });

    it('and a task that is cancelled right before it begins does not run in the next place', () => {
      const { engine, places, outcomes, submitShort } = build(1);
      engine.start();
      const [place] = places;
      place?.listener.onReady();
      ['a', 'b'].forEach(submitShort);
      place?.settle?.(RESULT);
      engine.cancel('b');
      place?.ahead.splice(0);
      place?.listener.onLost();
      places[1]?.listener.onReady();
      assert.deepEqual(places[1]?.ran, []);
      assert.deepEqual(outcomes, { a: 'result', b: 'TASK_CANCELLED' });
    });

    it('and never ends a worker that has gone on to the next task', () => {
      const { engine, places, submitShort } = build(1);
      engine.start();
      places[0]?.listener.onReady();
      submitShort('a');
      submitShort('b');
      // It has begun b; the result of a is on its way.
      places[0]?.ahead.splice(0);
      engine.cancel('a');
      assert.equal(places[0]?.aborted, undefined);
    });
  });
});
