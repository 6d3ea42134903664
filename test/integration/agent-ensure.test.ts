/** `agent ensure`, as cron calls it: every minute, also at the same time, with nobody reading what it prints. */
import assert from 'node:assert/strict';

import { Stack } from '../support/stack.ts';

describe('agent ensure', function () {
  this.timeout(240_000);
  let stack: Stack;

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    await stack.configureAgent('default', { 'python-interpreters': 0 });
  });

  after(async () => {
    await stack.agentCommand('stop', 'default');
    await stack.stop();
  });

  it('starts an agent that does not run, and only one however many call at once', async () => {
    const outcomes = await Promise.all(
      [1, 2, 3].map(async () => await stack.agentCommand('ensure')),
    );
    assert.deepEqual(
      outcomes.map(({ code }) => code),
      [0, 0, 0],
      JSON.stringify(outcomes),
    );
    const started = outcomes.filter(({ stdout }) => stdout.includes('is online'));
    assert.equal(started.length, 1);
  });

  it('says nothing when it runs, and leaves it alone', async () => {
    const pid = await stack.agentPid('default');
    assert.deepEqual(await stack.agentCommand('ensure'), { code: 0, stdout: '', stderr: '' });
    const told = await stack.agentCommand('ensure', 'default', '--json');
    assert.deepEqual(JSON.parse(told.stdout), { name: 'default', was_running: true, pid });
  });

  it('starts an agent that was killed', async () => {
    const pid = await stack.agentPid('default');
    process.kill(pid, 'SIGKILL');
    assert.equal((await stack.agentCommand('ensure')).code, 0);
    assert.notEqual(await stack.agentPid('default'), pid);
  });
});
