/** The files that `agent configure` writes, and several readings that fail together. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { parse } from 'dotenv';

import { AuthError, ConfigError } from '../../../src/base/errors.ts';
import { renderConfigFile, renderDotenvFile } from '../../../src/config/config-rendering.ts';
import { endpointDirectory } from '../../../src/config/endpoint-directory.ts';
import { loadAgentConfig } from '../../../src/config/load-agent-config.ts';
import { AGENT_OPTIONS, FILE_OPTIONS } from '../../../src/config/options.ts';
import { problemsTogether } from '../../../src/config/problems-together.ts';

describe('config.yaml as it is written', () => {
  it('says for each setting what is expected, and which changes need no restart', () => {
    const text = renderConfigFile(new Map());
    assert.match(text, /# Expected: a whole number from 0 to 19\. Default: 0, or 10 where/);
    assert.match(text, /# Expected: a whole number from \d+ to \d+\n?#? ?\(bytes\)/);
    const reloaded = text.match(/ Reload\.$/gm) ?? [];
    assert.equal(reloaded.length, FILE_OPTIONS.filter((row) => !row.restartNeeded).length);
  });
});

describe('.env as it is written', () => {
  it('names every variable, and sets only what was given', () => {
    const values = {
      OUTPOST_CLIENT_ID: 'a',
      OUTPOST_CLIENT_SECRET: "it's `x` #1",
      HTTPS_PROXY: 'p q',
    };
    const text = renderDotenvFile({ ...values, OUTPOST_CLIENT_SECRET: "it's #1" });
    for (const { environment } of AGENT_OPTIONS) {
      assert.match(text, new RegExp(`^(# )?${environment}=`, 'm'));
    }
    assert.deepEqual(parse(text), { ...values, OUTPOST_CLIENT_SECRET: "it's #1" });
    assert.deepEqual(parse(renderDotenvFile({})), {});
  });

  it('has examples that can be used as they stand', () => {
    const text = renderDotenvFile({}).replaceAll(/^# (?=OUTPOST_)/gm, '');
    const { OUTPOST_LOG_LEVEL: level, OUTPOST_CLEANUP_SCHEDULE: schedule } = parse(text);
    assert.deepEqual([level, schedule], ['info', '17 3 * * *']);
  });
});

describe('readings that fail together', () => {
  let home: string;

  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'outpost-settings-'));
  });

  afterEach(async () => {
    await rm(home, { recursive: true });
  });

  it('report a .env that others can read beside the mistakes in config.yaml', async () => {
    const directory = { ...endpointDirectory(home, 'one'), path: home };
    const paths = { configPath: join(home, 'config.yaml'), dotenvPath: join(home, '.env') };
    await writeFile(paths.configPath, 'reserve: x\n');
    await writeFile(paths.dotenvPath, '');
    await chmod(paths.dotenvPath, 0o644);
    await assert.rejects(loadAgentConfig({ ...directory, ...paths }, {}), (error: unknown) => {
      assert.ok(error instanceof ConfigError);
      assert.deepEqual(error.problems.map(({ key }) => key).sort(), ['.env', 'reserve']);
      assert.match(error.message, /^The settings have 2 problems:/);
      return true;
    });
  });

  it('say the same thing once, and settings before anything else', async () => {
    const wrong = new ConfigError('x', [{ key: 'a', source: 'b', expected: 'c' }]);
    const other = new ConfigError('y', [
      { key: 'a', source: 'b', expected: 'c' },
      { key: 'd', source: 'e', expected: 'f' },
    ]);
    const missing = new AuthError('CREDENTIALS_MISSING', 'none');
    const fail = (error: Error) => async () => await Promise.reject(error);
    await assert.rejects(
      problemsTogether([fail(missing), fail(wrong), fail(other)]),
      (error: unknown) => error instanceof ConfigError && error.problems.length === 2,
    );
    await assert.rejects(
      problemsTogether([fail(missing), async () => await Promise.resolve(1)]),
      missing,
    );
    assert.deepEqual(
      await problemsTogether([
        async () => await Promise.resolve(1),
        async () => await Promise.resolve('a'),
      ]),
      [1, 'a'],
    );
  });
});
