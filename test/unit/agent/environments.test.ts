import assert from 'node:assert/strict';

import { environmentObstacle, readTaskEnvironment } from '../../../src/agent/environments.ts';
import { readOptionValue } from '../../../src/config/option-types.ts';
import { NO_ENVIRONMENTS, launcherOf, offeredTypes } from '../../../src/protocol/environments.ts';
import type { EnvironmentRules } from '../../../src/protocol/environments.ts';
import type { EnvironmentType, TaskEnvironment } from '../../../src/protocol/sharing.ts';

const ID = '11111111-2222-4333-8444-555555555555';

function environment(type: EnvironmentType, location: string): TaskEnvironment {
  return { id: ID, type, location };
}

function rules(some: Partial<EnvironmentRules>): EnvironmentRules {
  return { ...NO_ENVIRONMENTS, ...some };
}

describe('environments that an endpoint allows', () => {
  it('are none unless they are named', () => {
    assert.equal(launcherOf(NO_ENVIRONMENTS, environment('venv', '/sw/a')), undefined);
    assert.deepEqual(offeredTypes(NO_ENVIRONMENTS), []);
  });

  it('are named by type, by location, and by a pattern, which means its characters', () => {
    const allow = ['module', 'venv:/sw/a.b', 'docker:registry.example.org/*'];
    const isAllowed = (type: EnvironmentType, location: string): boolean =>
      launcherOf(rules({ allow }), environment(type, location)) !== undefined;
    assert.ok(isAllowed('module', 'gcc/12'));
    assert.ok(isAllowed('venv', '/sw/a.b'));
    assert.ok(!isAllowed('venv', '/sw/a.b/c'));
    assert.ok(!isAllowed('venv', '/sw/aXb'));
    assert.ok(isAllowed('docker', 'registry.example.org/x:1'));
    assert.ok(!isAllowed('docker', 'evil.org/registry.example.org/x'));
    assert.ok(!isAllowed('podman', 'registry.example.org/x:1'));
    assert.deepEqual(offeredTypes(rules({ allow })), ['docker', 'venv', 'module']);
  });

  it('do not reach out of a pattern by ..', () => {
    const allow = ['venv:/sw/*'];
    assert.equal(launcherOf(rules({ allow }), environment('venv', '/sw/../home/x')), undefined);
  });

  it('are mapped by id or by type and location', () => {
    const launcher = { prefix: ['bwrap'], interpreter: 'python3.12' };
    const byId = rules({ map: { [ID]: launcher } });
    assert.equal(launcherOf(byId, environment('conda', 'a')), launcher);
    assert.equal(offeredTypes(byId).length, 7);
    const byPlace = rules({ map: { 'conda:a': launcher } });
    assert.equal(launcherOf(byPlace, environment('conda', 'a')), launcher);
    assert.equal(launcherOf(byPlace, environment('conda', 'b')), undefined);
    assert.deepEqual(offeredTypes(byPlace), ['conda']);
  });
});

describe('the environment of a task', () => {
  it('is read from its header, and is none without one', () => {
    const text = JSON.stringify(environment('venv', '/sw/a'));
    assert.deepEqual(readTaskEnvironment(text), environment('venv', '/sw/a'));
    assert.equal(readTaskEnvironment(undefined), undefined);
    assert.equal(readTaskEnvironment(''), undefined);
  });

  it('is refused when it could be anything else than a word of a command line', () => {
    for (const wrong of [
      environment('docker', '--privileged'),
      environment('module', 'gcc --x'),
      environment('venv', '/a\nb'),
      environment('venv', ''),
      { id: 'x', type: 'venv', location: '/a' },
      { id: ID, type: 'vm', location: '/a' },
      null,
      7,
    ]) {
      assert.throws(() => readTaskEnvironment(JSON.stringify(wrong)), TypeError);
    }
  });

  it('stands in the way of what is not allowed, and of JavaScript', () => {
    const where = environment('venv', '/sw/a');
    const allowed = rules({ allow: ['venv'] });
    assert.equal(environmentObstacle(where, 'python', allowed), undefined);
    const refused = environmentObstacle(where, 'python');
    assert.equal(refused?.code, 'ENVIRONMENT_NOT_AVAILABLE');
    assert.match(refused.message, /"venv:\/sw\/a" to `allow` of `environments`/);
    assert.match(environmentObstacle(where, 'javascript', allowed)?.message ?? '', /^JavaScript/);
  });
});

describe('the setting environments', () => {
  const type = { type: 'environments' } as const;

  it('is read from YAML and from JSON text', () => {
    const given = {
      allow: ['venv:/sw/*'],
      map: { [ID.toUpperCase()]: { prefix: ['a', 'b'] }, 'venv:/x': { interpreter: 'p' } },
      options: { docker: ['--network=none'] },
    };
    const value = {
      ...given,
      map: { [ID]: { prefix: ['a', 'b'] }, 'venv:/x': { interpreter: 'p' } },
    };
    assert.deepEqual(readOptionValue(type, given), { value });
    assert.deepEqual(readOptionValue(type, JSON.stringify(given)), { value });
    assert.deepEqual(readOptionValue(type, {}), { value: NO_ENVIRONMENTS });
  });

  it('is refused with what is wrong in it', () => {
    for (const [raw, problem] of [
      ['venv', /^a map with any of allow, map and options/],
      [{ alow: [] }, /"alow" is none of them/],
      [{ allow: ['vm'] }, /"vm" is neither/],
      [{ allow: ['venv:'] }, /"venv:" is neither/],
      [{ allow: 'venv' }, /a list of texts under allow/],
      [{ map: { venv: {} } }, /"venv" is neither/],
      [{ map: { [ID]: { command: 'x' } } }, /"command" is none of them/],
      [{ map: { [ID]: { prefix: 'x' } } }, /a list of words as prefix/],
      [{ options: { venv: [] } }, /"venv" is none/],
      [{ options: { docker: '--x' } }, /a list of words under options, docker/],
    ] as const) {
      const reading = readOptionValue(type, raw);
      assert.ok('expected' in reading, JSON.stringify(raw));
      assert.match(reading.expected, problem);
    }
  });
});
