/** What makes an agent ready, and what takes that away. */
import assert from 'node:assert/strict';

import type { AgentReadings } from '../../../src/agent/health/agent-readings.ts';
import { judgeReadiness } from '../../../src/agent/health/readiness.ts';

const ONLINE = { phase: 'online', since: 0 } as const;

const WELL: AgentReadings = {
  tasks: {
    running: 1,
    waiting: 0,
    pending: 0,
    succeeded: 0,
    failed: 0,
    duplicates: 0,
    slots: { javascript: 2, python: 2 },
    degraded: {},
  },
  unconfirmed: 0,
  unpublished: 0,
  journal: { liveCount: 0, bytes: 0, segments: 1, tombstones: 0, full: false },
  sessions: { tasks: ONLINE, results: ONLINE },
  reconnects: { tasks: 0, results: 0 },
  offline: undefined,
  isFenced: false,
  pauses: [],
  isHostConnected: true,
  hostPid: 1,
  hostRestarts: 0,
  workerRestarts: { javascript: 0, python: 0 },
  heartbeatAgeMs: 1_000,
  heartbeatPeriodMs: 30_000,
  stalls: [],
  stalled: [],
  tokenEndEpochMs: undefined,
  environments: [],
};

function parts(changes: Partial<AgentReadings>): { reasons: string[]; notes: string[] } {
  const { ready, reasons, notes } = judgeReadiness('running', { ...WELL, ...changes });
  assert.equal(ready, reasons.length === 0);
  return { reasons: reasons.map(({ part }) => part), notes: notes.map(({ part }) => part) };
}

describe('readiness of an agent', () => {
  it('is there while everything works', () => {
    assert.deepEqual(parts({}), { reasons: [], notes: [] });
  });

  it('is not there before the start is done, nor while the agent ends', () => {
    for (const phase of ['created', 'starting', 'draining', 'stopped'] as const) {
      assert.equal(judgeReadiness(phase, WELL).ready, false, phase);
    }
    const { reasons } = judgeReadiness('starting', undefined, 'the hub is away');
    assert.match(reasons[0]?.message ?? '', /the hub is away/);
  });

  it('outlasts a short interruption, and ends with a long one', () => {
    const offline = (forMs: number): Partial<AgentReadings> => ({
      offline: { forMs, reason: 'dialling again' },
    });
    assert.deepEqual(parts(offline(80_000)), { reasons: [], notes: ['broker'] });
    assert.deepEqual(parts(offline(91_000)), { reasons: ['broker'], notes: [] });
  });

  it('ends when the broker confirms nothing although it is connected', () => {
    assert.deepEqual(parts({ heartbeatAgeMs: 91_000 }).reasons, ['broker']);
    assert.deepEqual(parts({ heartbeatAgeMs: undefined }).reasons, ['broker']);
  });

  it('ends at once when somebody else has the endpoint', () => {
    const offline = { forMs: 1, reason: 'fenced' };
    assert.deepEqual(parts({ isFenced: true, offline }).reasons, ['broker']);
  });

  it('ends with a journal that takes nothing', () => {
    assert.deepEqual(parts({ journal: { ...WELL.journal, full: true } }).reasons, ['journal']);
    assert.deepEqual(parts({ journal: { ...WELL.journal, lastError: 'EIO' } }).reasons, [
      'journal',
    ]);
  });

  it('ends when no task could run, and only notes that one language cannot', () => {
    assert.deepEqual(parts({ isHostConnected: false }).reasons, ['workers']);
    const degraded = { python: 'no such file' };
    const one = { ...WELL.tasks, slots: { javascript: 2, python: 0 }, degraded };
    assert.deepEqual(parts({ tasks: one }), { reasons: [], notes: ['workers'] });
    const none = { ...WELL.tasks, slots: { javascript: 0, python: 0 }, degraded };
    assert.deepEqual(parts({ tasks: none }).reasons, ['workers']);
  });

  it('ends with a loop that makes no progress, and a pause is only noted', () => {
    assert.deepEqual(parts({ stalled: ['journal writer'] }).reasons, ['watchdog']);
    assert.deepEqual(parts({ pauses: ['paused'] }), { reasons: [], notes: ['agent'] });
  });
});
