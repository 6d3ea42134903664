import assert from 'node:assert/strict';

import {
  backgroundEnvironment,
  runtimeDirectory,
  workerBaseEnvironment,
} from '../../../src/config/process-context.ts';
import { serviceNotification } from '../../../src/config/service-environment.ts';

describe('what a service manager tells a service', () => {
  it('is where to send notifications, and how often it wants a sign of life', () => {
    assert.equal(serviceNotification({}), undefined);
    assert.equal(serviceNotification({ NOTIFY_SOCKET: '' }), undefined);
    assert.equal(serviceNotification({ NOTIFY_SOCKET: 'vsock:2:1' }), undefined);
    assert.deepEqual(serviceNotification({ NOTIFY_SOCKET: '@a' }), { socket: '@a' });
    const watched = { NOTIFY_SOCKET: '/run/n', WATCHDOG_USEC: '60000000', WATCHDOG_PID: '7' };
    assert.deepEqual(serviceNotification(watched, 7), { socket: '/run/n', watchdogMs: 60_000 });
    // That watchdog is for somebody else.
    assert.deepEqual(serviceNotification(watched, 8), { socket: '/run/n' });
    const senseless = { NOTIFY_SOCKET: '/run/n', WATCHDOG_USEC: 'soon' };
    assert.deepEqual(serviceNotification(senseless), { socket: '/run/n' });
  });

  it('reaches neither workers nor a background agent', () => {
    const given = { PATH: '/bin', NOTIFY_SOCKET: '/run/n', WATCHDOG_USEC: '1', WATCHDOG_PID: '2' };
    assert.deepEqual(backgroundEnvironment(given), { PATH: '/bin' });
    assert.deepEqual(workerBaseEnvironment(given), { PATH: '/bin' });
  });

  it('includes a directory for the socket, which counts only when it is that of the endpoint', () => {
    const own = '/run/outpost/main';
    assert.equal(runtimeDirectory({ RUNTIME_DIRECTORY: own }, 'main'), own);
    assert.equal(runtimeDirectory({ RUNTIME_DIRECTORY: own }, 'other'), undefined);
    assert.equal(runtimeDirectory({ RUNTIME_DIRECTORY: own, XDG_RUNTIME_DIR: '/x' }, 'main'), '/x');
  });
});
