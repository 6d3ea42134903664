/**
 * Draining when the hub is away, refuses, or has taken tasks back under the same lease before: with a journal on disk, a small hub and
 * a worker host that only takes notes.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { decodeModeRecord, encodeModeRecord } from '../../src/agent/agent-mode.ts';
import type { ModeRecord } from '../../src/agent/agent-mode.ts';
import { AgentShutdown } from '../../src/agent/agent-shutdown.ts';
import type { Dispatcher } from '../../src/agent/dispatcher.ts';
import { HandBack } from '../../src/agent/hand-back.ts';
import { Intake } from '../../src/agent/intake.ts';
import type { Journal } from '../../src/agent/journal/journal.ts';
import { ModeSwitch } from '../../src/agent/mode-switch.ts';
import { Registrar } from '../../src/agent/registration.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { UnavailableError } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { HubClient } from '../../src/client/hub-client.ts';
import { clientCredentialsTokenSource } from '../../src/transport/oauth/client-credentials.ts';
import { makeDispatcher } from '../support/dispatcher-fixture.ts';
import { eventually } from '../support/eventually.ts';
import { FakeHub } from '../support/fake-hub.ts';
import { JournalFixture } from '../support/journal-fixture.ts';

const ENDPOINT_ID = randomUUID();
const TAKEN = { status: 200, body: { handed_back: 1 } } as const;
const AWAY = { status: 503, body: {} } as const;

/** What waits until somebody opens it. */
function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => { open(); } }; // prettier-ignore
}

describe('draining', () => {
  const fixture = new JournalFixture();
  let hub: FakeHub;
  let journal: Journal;
  let dispatcher: Dispatcher;
  let modes: ModeSwitch;
  let handBack: HandBack;
  let client: HubClient;
  let registrar: Registrar;
  let kept: ModeRecord[];
  let isDiskFull: boolean;
  let onSave: () => void;
  let intake: Intake;
  let registrationCount: number;

  beforeEach(async () => {
    hub = await FakeHub.start();
    registrationCount = 0;
    hub.onRegister = () => {
      registrationCount += 1;
      const consume = { connection_url: 'amqp://127.0.0.1:1', exchange: 'tasks', queue: 'mine' };
      const kwargs = { queue_publish_kwargs: { exchange: 'x', routing_key: 'y' } };
      return {
        endpoint_id: ENDPOINT_ID,
        command_queue_info: consume,
        task_queue_info: consume,
        result_queue_info: { ...consume, ...kwargs },
        heartbeat_queue_info: { ...consume, ...kwargs },
        warnings: [],
        lease: { epoch: registrationCount, ttl_ms: 90_000 },
      };
    };
    ({ journal } = await fixture.open(await fixture.directory()));
    const tokens = clientCredentialsTokenSource({
      tokenEndpoint: hub.tokenEndpoint,
      clientId: hub.clientId,
      clientSecret: () => hub.clientSecret,
      scope: 'compute',
      clock: systemClock,
    });
    client = new HubClient({ hubUrl: hub.url, tokens, clock: systemClock, retries: 0 });
    registrar = new Registrar(
      {
        name: 'default',
        metadata: {},
        takeover: false,
        saveRegistration: async () => {
          await Promise.resolve();
        },
      },
      client,
      systemClock,
      silentLogger,
    );
    await registrar.obtain();
    dispatcher = makeDispatcher(journal, {
      rules: {
        endpointId: ENDPOINT_ID,
        allowedFunctions: undefined,
        places: { javascript: 1, python: 1 },
      },
      isHostConnected: () => false,
    });
    intake = new Intake({
      prefetch: 1,
      logger: silentLogger,
      onDelivery: () => undefined,
      onForget: () => undefined,
    });
    handBack = new HandBack({ hub: client, registrar, dispatcher, journal, logger: silentLogger });
    kept = [];
    isDiskFull = false;
    onSave = () => undefined;
    modes = new ModeSwitch({
      record: undefined,
      save: async (record) => {
        await Promise.resolve();
        if (isDiskFull) {
          throw new UnavailableError('START_FAILED', 'mode.json cannot be written: no space left');
        }
        kept.push(record);
        onSave();
      },
      intake,
      dispatcher,
      handBack,
      clock: systemClock,
      logger: silentLogger,
      onChange: () => undefined,
    });
  });

  afterEach(async () => {
    modes.stop();
    await hub.stop();
    await fixture.release();
  });

  /** A task that the agent has acked and not begun. */
  async function hold(taskId: string): Promise<void> {
    const meta = { functionId: randomUUID(), language: 'javascript' };
    if (journal.lookup(taskId) === 'new') {
      await journal.received({ taskId, meta, body: Buffer.from('x') }, false);
    }
    dispatcher.recover([{ taskId, state: 'received', attempts: 0, meta }]);
  }

  async function ask(mode: ModeRecord['mode'], by = 'anna'): Promise<boolean> {
    return await modes.change({ mode, by, reason: null });
  }

  async function untilDrained(): Promise<void> {
    await modes.waitWhileDraining(5_000);
    assert.equal(modes.document.state, 'drained');
  }

  it('does not wait for a hub that is away: what has not begun stays, and is handed back later', async () => {
    hub.misbehave('hand-back', AWAY, AWAY, TAKEN);
    const taskId = randomUUID();
    await hold(taskId);
    await ask('drained');
    await untilDrained();
    assert.deepEqual(dispatcher.unstarted, [taskId]);
    assert.match(modes.handBackFailure ?? '', /./);
    await eventually(() => {
      assert.deepEqual([modes.handBackFailure, handBack.count], [null, 1]);
    });
    assert.deepEqual(dispatcher.unstarted, []);
    assert.equal(journal.lookup(taskId), 'new');
  });

  /** Ends an agent's last chance to hand back; `isLate` lets time run out. */
  function stopping(): { readonly ended: Promise<void>; readonly isLate: () => void } {
    const timers = new Set<() => void>();
    const clock: Clock = {
      ...systemClock,
      after: (_delayMs, callback) => {
        timers.add(callback);
        return { cancel: () => timers.delete(callback) };
      },
    };
    const shutdown = new AgentShutdown({ hub: client, registrar, killGraceMs: 0, clock, logger: silentLogger }); // prettier-ignore
    const isLate = (): void => {
      const due = [...timers];
      timers.clear();
      for (const callback of due) {
        callback();
      }
    };
    return { ended: shutdown.handBack({ handBack, dispatcher }), isLate };
  }

  it('does not end with the time while one portion after the other gets through', async () => {
    const answers = [gate(), gate(), gate()];
    hub.misbehave('hand-back', ...answers.map(({ opened }) => ({ ...TAKEN, until: opened })));
    const taskIds = Array.from({ length: 600 }, () => randomUUID());
    await Promise.all(taskIds.map(hold));
    const { ended, isLate } = stopping();
    for (const [index, { open }] of answers.entries()) {
      await eventually(() => {
        assert.equal(hub.seen('hand-back').length, index + 1);
      });
      if (index > 0) {
        isLate();
      }
      open();
    }
    await ended;
    assert.deepEqual([dispatcher.unstarted, handBack.count], [[], 600]);
  });

  it('ends with the time when nothing gets through, and what the hub has confirmed is not kept', async () => {
    hub.misbehave('hand-back', TAKEN, { hang: true });
    await Promise.all(Array.from({ length: 300 }, async () => { await hold(randomUUID()); })); // prettier-ignore
    const { ended, isLate } = stopping();
    await eventually(() => {
      assert.equal(hub.seen('hand-back').length, 2);
    });
    let isOver = false;
    const over = ended.then(() => (isOver = true));
    await eventually(() => {
      isLate();
      assert.ok(isOver);
    });
    await over;
    handBack.cancel();
    assert.deepEqual([dispatcher.unstarted.length, handBack.count], [50, 250]);
  });

  it('registers anew before it hands back once more under the same lease', async () => {
    hub.misbehave('hand-back', TAKEN, TAKEN);
    const taskId = randomUUID();
    for (const epoch of [1, 2]) {
      await hold(taskId);
      await ask('drained');
      await untilDrained();
      assert.equal(journal.lookup(taskId), 'new');
      await ask('running');
      const asked = hub.seen('hand-back').at(-1)?.text ?? '{}';
      assert.equal((JSON.parse(asked) as { epoch: number }).epoch, epoch);
    }
    assert.equal(registrationCount, 2);
  });

  it('keeps a task of which the hub had not said yet that it has taken it, when it is resumed', async () => {
    hub.misbehave('hand-back', { hang: true });
    const taskId = randomUUID();
    await hold(taskId);
    await ask('drained');
    await eventually(() => {
      assert.equal(hub.seen('hand-back').length, 1);
    });
    await ask('running');
    assert.deepEqual(dispatcher.unstarted, [taskId]);
    assert.equal(journal.lookup(taskId), 'live');
  });

  it('changes nothing when the wish cannot be kept', async () => {
    isDiskFull = true;
    await assert.rejects(ask('drained'), { code: 'START_FAILED' });
    assert.equal(modes.document.state, 'running');
    isDiskFull = false;
    assert.equal(await ask('paused'), true);
    assert.deepEqual(
      kept.map(({ mode, by }) => [mode, by]),
      [['paused', 'anna']],
    );
  });

  it('says whether anything has changed, and takes over the wish of somebody else', async () => {
    assert.equal(await ask('running'), false);
    assert.equal(await ask('drained', 'schedule'), true);
    assert.equal(await ask('drained', 'schedule'), false);
    assert.equal(await ask('drained', 'anna'), true);
    assert.equal(modes.document.by, 'anna');
    assert.equal(await ask('running'), true);
  });

  it('leaves a wish that is being kept while the agent begins to stop to the next start', async () => {
    onSave = () => {
      modes.stop();
    };
    assert.equal(await ask('drained'), true);
    assert.deepEqual(intake.pauses, []);
    assert.equal(kept.at(-1)?.mode, 'drained');
  });

  it('refuses every change once the agent stops', async () => {
    modes.stop();
    await assert.rejects(ask('paused'), { code: 'PRECONDITION_FAILED' });
  });
});

describe('the file of a mode', () => {
  it('is read as it was written', () => {
    const since = new Date(0).toISOString();
    const before: ModeRecord = { mode: 'paused', since, by: 'anna', reason: null };
    const record: ModeRecord = { mode: 'drained', since, by: 'schedule', reason: 'x', before };
    assert.deepEqual(decodeModeRecord(encodeModeRecord(record)), record);
  });

  it('says nothing when it is damaged', () => {
    for (const text of ['', '{', '[]', 'null', '{"mode":"gone","since":"now","by":1}']) {
      assert.equal(decodeModeRecord(text), undefined, text);
    }
  });
});
