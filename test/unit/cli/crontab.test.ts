import assert from 'node:assert/strict';

import {
  crontabCommand,
  hasCrontabBlock,
  withCrontabBlock,
  withoutCrontabBlock,
} from '../../../src/cli/agent/boot/crontab.ts';

const OWNER = { name: 'default', home: '/home/a/.outpost' };
const OTHER = { name: 'default', home: '/scratch/a/.outpost' };

describe('the block of an endpoint in a crontab', () => {
  it('is added once, whatever stands around it, and leaves nothing behind', () => {
    for (const before of ['', 'MAILTO=a\n1 2 * * * x\n', '# no line feed at its end']) {
      const once = withCrontabBlock(before, OWNER, ['@reboot one']);
      const twice = withCrontabBlock(once, OWNER, ['@reboot two']);
      assert.equal(twice, once.replace('one', 'two'));
      assert.ok(hasCrontabBlock(twice, OWNER));
      assert.equal(withoutCrontabBlock(twice, OWNER).trimEnd(), before.trimEnd());
    }
  });

  it('is not that of an endpoint of the same name in another home', () => {
    const both = withCrontabBlock(withCrontabBlock('', OWNER, ['a']), OTHER, ['b']);
    assert.equal(withoutCrontabBlock(both, OWNER), withCrontabBlock('', OTHER, ['b']));
    assert.ok(!hasCrontabBlock(withoutCrontabBlock(both, OTHER), OTHER));
  });

  it('is left alone when somebody has removed one of its marks', () => {
    const broken = withCrontabBlock('', OWNER, ['a']).split('\n').slice(1).join('\n');
    assert.equal(withoutCrontabBlock(broken, OWNER), broken);
  });

  it('has commands that sh and cron read as they were meant', () => {
    assert.equal(
      crontabCommand(['env', 'A=/x y', '/bin/node', "it's", '50%']),
      `env 'A=/x y' /bin/node 'it'\\''s' '50\\%'`,
    );
  });
});
