/** The parts of `agent doctor` that only read texts: what the kernel writes about limits, groups and mounts; the archive; the redaction. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';

import { withPrerequisites } from '../../../src/cli/agent/doctor/check.ts';
import { CHECKS } from '../../../src/cli/agent/doctor/checks.ts';
import { controlGroupLimits } from '../../../src/cli/agent/doctor/control-groups.ts';
import { softLimits } from '../../../src/cli/agent/doctor/limit-checks.ts';
import { findMount } from '../../../src/cli/agent/doctor/mounts.ts';
import { Redaction } from '../../../src/cli/agent/doctor/redaction.ts';
import { packArchive } from '../../../src/cli/agent/doctor/tar.ts';

describe('agent doctor: limits of control groups', () => {
  const reader =
    (files: Readonly<Record<string, string>>) =>
    (path: string): string | undefined =>
      files[path];

  it('takes the least of all groups above, in version 2', () => {
    const limits = controlGroupLimits(
      '0::/user.slice/user-1000.slice/session-3.scope\n',
      reader({
        '/sys/fs/cgroup/cgroup.procs': '',
        '/sys/fs/cgroup/user.slice/user-1000.slice/memory.max': '2147483648\n',
        '/sys/fs/cgroup/user.slice/user-1000.slice/memory.current': '1048576\n',
        '/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope/memory.max': 'max\n',
        '/sys/fs/cgroup/user.slice/cpu.max': '50000 100000\n',
        '/sys/fs/cgroup/user.slice/user-1000.slice/cpu.max': 'max 100000\n',
        '/sys/fs/cgroup/user.slice/user-1000.slice/pids.max': '100\n',
        '/sys/fs/cgroup/user.slice/user-1000.slice/pids.current': '7\n',
      }),
    );
    assert.deepEqual(limits, {
      memoryBytes: 2_147_483_648,
      memoryUsedBytes: 1_048_576,
      processors: 0.5,
      processes: 100,
      processesUsed: 7,
    });
  });

  it('reads version 1, where no limit is a very large number or -1', () => {
    const limits = controlGroupLimits(
      '4:memory:/job/7\n3:cpu,cpuacct:/\n2:pids:/job\n0::/\n',
      reader({
        '/sys/fs/cgroup/memory/cgroup.procs': '',
        '/sys/fs/cgroup/memory/job/7/memory.limit_in_bytes': '9223372036854771712\n',
        '/sys/fs/cgroup/memory/job/memory.limit_in_bytes': '536870912\n',
        '/sys/fs/cgroup/memory/job/memory.usage_in_bytes': '1000\n',
        '/sys/fs/cgroup/cpu,cpuacct/cgroup.procs': '',
        '/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '-1\n',
        '/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
        '/sys/fs/cgroup/pids/cgroup.procs': '',
        '/sys/fs/cgroup/pids/job/pids.max': 'max\n',
      }),
    );
    assert.deepEqual(limits, {
      memoryBytes: 536_870_912,
      memoryUsedBytes: 1000,
      processors: undefined,
      processes: undefined,
      processesUsed: undefined,
    });
  });

  it('reads the soft limits of a process', () => {
    const limits = softLimits(
      'Limit                     Soft Limit           Hard Limit           Units     \n' +
        'Max cpu time              900                  unlimited            seconds   \n' +
        'Max open files            1024                 524288               files     \n' +
        'Max address space         unlimited            unlimited            bytes     \n',
    );
    assert.equal(limits.get('Max cpu time'), 900);
    assert.equal(limits.get('Max open files'), 1024);
    assert.ok(limits.has('Max address space'));
    assert.equal(limits.get('Max address space'), undefined);
  });

  it('finds the mount of a path, the later one of two at one place', () => {
    const mountinfo =
      '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n' +
      '40 22 0:35 / /home rw,nosuid shared:9 - autofs systemd-1 rw\n' +
      '41 40 0:50 / /home rw,nosuid - nfs4 server:/home rw\n' +
      '42 22 0:51 / /data\\040sets ro - lustre x rw\n';
    assert.equal(findMount(mountinfo, '/home/me/.outpost')?.type, 'nfs4');
    assert.equal(findMount(mountinfo, '/homes')?.type, 'ext4');
    assert.deepEqual(findMount(mountinfo, '/data sets/x')?.options, ['ro']);
  });
});

describe('agent doctor: the list of checks', () => {
  it('has each check once, below all that it builds on', () => {
    const names = CHECKS.map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
    for (const [index, { name, after = [] }] of CHECKS.entries()) {
      for (const before of after) {
        const at = names.indexOf(before);
        assert.ok(at !== -1 && at < index, `${name} after ${before}`);
      }
    }
  });

  it('adds what a check builds on', () => {
    const names = withPrerequisites(CHECKS, new Set(['identity'])).map(({ name }) => name);
    assert.deepEqual(names, [
      'hub-dns',
      'hub-tcp',
      'hub-tls',
      'hub-http',
      'credentials',
      'identity',
    ]);
  });
});

describe('agent doctor: the archive', () => {
  it('is one that tar reads', () => {
    const archive = packArchive(
      [
        { name: 'd/a.txt', text: 'short' },
        { name: 'd/b.txt', text: 'é'.repeat(512) },
        { name: 'd/empty', text: '' },
      ],
      Date.UTC(2026, 1, 3, 4, 5, 6),
    );
    const list = execFileSync('tar', ['tvzf', '-', '--utc'], { input: archive, encoding: 'utf8' });
    assert.match(list, /^-rw-------.*\b5 2026-02-03 04:05 d\/a\.txt$/m);
    const text = execFileSync('tar', ['xzOf', '-', 'd/b.txt'], { input: archive });
    assert.equal(text.toString(), 'é'.repeat(512));
  });
});

describe('agent doctor: the redaction', () => {
  const redaction = new Redaction(['s3cret/of+mine', 'x']);

  it('takes out what is known, in all forms in which it may stand', () => {
    const forms = ['s3cret/of+mine', encodeURIComponent('s3cret/of+mine'), btoa('s3cret/of+mine')];
    for (const form of forms) {
      assert.equal(redaction.text(`a ${form} b`).includes(form), false, form);
    }
    assert.equal(redaction.text('a box'), 'a box');
  });

  it('takes out what looks like a credential, and leaves ids and paths', () => {
    const token = 'Ag7wJ0k2QmVYc9x5p8Zt3Lr6Nf1Hb4DuGsEoXiKaTyRq';
    assert.equal(redaction.text(`token=${token}`).includes(token), false);
    assert.equal(redaction.text('amqps://u:pass@host/v').includes('pass'), false);
    const harmless =
      '/home/somebody/with/a/long/path/to/.outpost/default/journal 0b6c1e4e-3d0f-4a4b-9a0e-5a5c1f0b7d11';
    assert.equal(redaction.text(harmless), harmless);
  });

  it('takes out of a log line what functions said', () => {
    const line = JSON.stringify({
      level: 'error',
      msg: 'worker host ended',
      reason: 'it exited with code 1; it said: patient 4711',
      stdout: 'patient 4711',
      err: { message: 'lost', stack: 'Error: it said: patient 4711\n at x' },
    });
    const clean = redaction.line(line);
    assert.equal(clean.includes('4711'), false, clean);
    assert.match(clean, /worker host ended/);
  });
});
