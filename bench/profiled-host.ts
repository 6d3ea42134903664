/** Loaded into the worker host before its own entry, by the script that agent-entry.ts writes. */
import assert from 'node:assert/strict';
import { isMainThread } from 'node:worker_threads';

import { PROFILE_DIRECTORY_VARIABLE } from './agent-variables.ts';
import { profileOnSignal } from './profile-on-signal.ts';

// Threads of the host run user code: their time is the task's.
if (isMainThread) {
  const directory = process.env[PROFILE_DIRECTORY_VARIABLE];
  assert.ok(directory !== undefined);
  profileOnSignal(directory, 'host');
}
