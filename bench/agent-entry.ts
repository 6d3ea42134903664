/**
 * The `agent` command as the bench starts it when something about it must differ: with the null journal, or so that its control
 * process and its worker host can be profiled. Everything else is the product, arguments included.
 */
import { chmodSync, writeFileSync } from 'node:fs';
import { register } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { NULL_JOURNAL_VARIABLE, PROFILE_DIRECTORY_VARIABLE } from './agent-variables.ts';
import { profileOnSignal } from './profile-on-signal.ts';

if (process.env[NULL_JOURNAL_VARIABLE] === '1') {
  register(new URL('./null-journal-hook.js', import.meta.url));
}
const profileDirectory = process.env[PROFILE_DIRECTORY_VARIABLE];
if (profileDirectory !== undefined) {
  profileOnSignal(profileDirectory, 'agent');
  // The host is started as `process.execPath`, with an environment of its own: a script in that place brings the profiler along.
  const node = process.execPath;
  const module = fileURLToPath(new URL('./profiled-host.js', import.meta.url));
  const script = join(profileDirectory, 'node');
  writeFileSync(
    script,
    `#!/bin/sh\n${PROFILE_DIRECTORY_VARIABLE}='${profileDirectory}' exec '${node}' --import '${module}' "$@"\n`,
  );
  chmodSync(script, 0o700);
  process.execPath = script;
}
await import('../src/cli/agent.ts');
