import assert from 'node:assert/strict';

import { decideLease } from '../../../src/hub/catalogue/lease.ts';
import type { LeaseState } from '../../../src/hub/catalogue/lease.ts';

const holder = { host: 'login1', boot_id: 'b1', pid: 10, start_ticks: 100 };
const other = { host: 'login2', boot_id: 'b2', pid: 20, start_ticks: 200 };
const held: LeaseState = {
  epoch: 7,
  isHeld: true,
  holder: { ...holder, granted_at: '2026-01-02T03:04:05.000Z' },
};

describe('decideLease', () => {
  it('grants what nobody holds and what has expired', () => {
    const free = { epoch: 0, isHeld: false, holder: null };
    assert.ok(decideLease(free, { holder: other }).isGranted);
    assert.ok(decideLease({ ...held, isHeld: false }, { holder: other }).isGranted);
  });

  it('refuses another host and names who holds it', () => {
    const decision = decideLease(held, { holder: other, previous_epoch: 7 });
    assert.deepEqual(decision, {
      isGranted: false,
      heldBy: 'login1 (pid 10) since 2026-01-02T03:04:05.000Z',
    });
  });

  it('lets a successor on the same host and boot follow at once when it knows the epoch', () => {
    const successor = { ...holder, pid: 11, start_ticks: 500 };
    assert.ok(decideLease(held, { holder: successor, previous_epoch: 7 }).isGranted);
    assert.ok(!decideLease(held, { holder: successor, previous_epoch: 6 }).isGranted);
    assert.ok(!decideLease(held, { holder: successor }).isGranted);
  });

  it('does not wait for a holder whose host has been booted again, when the epoch proves the directory', () => {
    const rebooted = { ...holder, boot_id: 'b9' };
    assert.ok(decideLease(held, { holder: rebooted, previous_epoch: 7 }).isGranted);
    assert.ok(!decideLease(held, { holder: rebooted, previous_epoch: 6 }).isGranted);
    assert.ok(!decideLease(held, { holder: rebooted }).isGranted);
  });

  // The answer to a registration that was granted may get lost; the process then asks again without the new epoch.
  it('grants again to the very process that holds it', () => {
    assert.ok(decideLease(held, { holder, previous_epoch: 6 }).isGranted);
  });

  it('grants a takeover', () => {
    assert.ok(decideLease(held, { holder: other, takeover: true }).isGranted);
  });

  it('grants an original endpoint what no known process holds, and nothing else', () => {
    assert.ok(decideLease({ epoch: 3, isHeld: true, holder: null }, undefined).isGranted);
    assert.ok(decideLease({ ...held, isHeld: false }, undefined).isGranted);
    assert.ok(!decideLease(held, undefined).isGranted);
  });
});
