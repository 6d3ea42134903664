import assert from 'node:assert/strict';

import { classifyExit } from '../../../src/workers/python/exit-reason.ts';
import { countOomKills } from '../../../src/workers/python/oom-kills.ts';

const KILLED = { exitCode: null, signal: 'SIGKILL' } as const;

function files(content: Readonly<Record<string, string>>): (path: string) => string {
  return (path) => content[path] ?? '';
}

describe('an interpreter that was killed', () => {
  it('is named out of memory when the kernel has counted such a kill, or does not tell', () => {
    const counted = classifyExit({ ...KILLED, wasOutOfMemory: true }, '');
    assert.equal(counted.code, 'WORKER_KILLED_OOM');
    assert.doesNotMatch(counted.message, /probably/);
    const untold = classifyExit(KILLED, '');
    assert.equal(untold.code, 'WORKER_KILLED_OOM');
    assert.match(untold.message, /probably/);
  });

  it('is named as killed from outside when the kernel has counted none', () => {
    const { code, message } = classifyExit({ ...KILLED, wasOutOfMemory: false }, 'last words');
    assert.equal(code, 'WORKER_EXITED');
    assert.match(message, /SIGKILL from outside.*last words/s);
  });
});

describe('the count of kills for want of memory', () => {
  it('is that of our own control group', () => {
    const read = files({
      '/proc/self/cgroup': '12:pids:/a\n0::/system.slice/agent.service\n',
      '/sys/fs/cgroup/system.slice/agent.service/memory.events':
        'low 0\nhigh 7\nmax 9\noom 4\noom_kill 3\noom_group_kill 1\n',
      '/proc/vmstat': 'oom_kill 99\n',
    });
    assert.equal(countOomKills(read), 3);
  });

  it('is that of the machine where there is none of our group', () => {
    const vmstat = 'nr_free_pages 1\noom_kill 99\nnuma_hit 5\n';
    for (const groups of ['', '4:memory:/x\n0::/\n', '0::/elsewhere\n']) {
      assert.equal(
        countOomKills(files({ '/proc/self/cgroup': groups, '/proc/vmstat': vmstat })),
        99,
      );
    }
  });

  it('is unknown where the kernel does not tell', () => {
    assert.equal(countOomKills(files({})), undefined);
  });
});
