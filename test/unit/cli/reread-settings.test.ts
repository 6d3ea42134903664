/** Reading the settings of a running agent again: what a file that is being replaced must not do. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ConfigError } from '../../../src/base/errors.ts';
import { settingsReader } from '../../../src/cli/agent/reread-settings.ts';
import { clientSignIn } from '../../../src/cli/agent/sign-in.ts';
import type { Credentials } from '../../../src/config/credentials.ts';
import { createEndpointDirectory } from '../../../src/config/endpoint-directory.ts';
import { loadAgentConfig } from '../../../src/config/load-agent-config.ts';
import { Secret } from '../../../src/config/secret.ts';

const FUNCTION_ID = '4b2b4d1e-2c1b-4b8e-9d0e-0d8c7a9b1c11';

describe('reading the settings again', () => {
  let home: string;

  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'outpost-reread-'));
  });

  afterEach(async () => {
    await rm(home, { recursive: true });
  });

  async function started(text: string): Promise<{
    readonly configPath: string;
    readonly read: ReturnType<typeof settingsReader>;
  }> {
    const directory = await createEndpointDirectory(home, 'main');
    const { configPath } = directory;
    await writeFile(configPath, text);
    const credentials: Credentials = {
      clientId: 'c',
      clientSecret: async () => await Promise.resolve(new Secret('s')),
      source: 'test',
      handOver: false,
      warnings: [],
    };
    const logControl = {
      levels: { level: 'info', configured: 'info', until: null },
      setLevel: () => logControl.levels,
      configure: () => undefined,
    };
    const environment = {};
    const resolved = await loadAgentConfig(directory, environment);
    const context = { environment, home, directory };
    const signIn = clientSignIn(credentials);
    const read = settingsReader({ context, flags: {}, resolved, signIn, logControl });
    return { configPath, read };
  }

  it('does not take a file that is gone or empty for one without settings', async () => {
    const { configPath, read } = await started(`allowed_functions: [${FUNCTION_ID}]\n`);
    await writeFile(configPath, '\n');
    await assert.rejects(read(), ConfigError);
    await rm(configPath);
    await assert.rejects(read(), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.deepEqual(
        error.problems.map(({ key, source }) => [key, source]),
        [['config.yaml', configPath]],
      );
      return true;
    });
    await writeFile(configPath, '{}\n');
    const { settings, applied } = await read();
    assert.equal(settings.allowedFunctions, undefined);
    assert.deepEqual(
      applied.map(({ key }) => key),
      ['allowed_functions'],
    );
  });

  it('goes on without settings where there were none', async () => {
    const { configPath, read } = await started('');
    assert.deepEqual((await read()).applied, []);
    await rm(configPath);
    assert.deepEqual((await read()).applied, []);
  });
});
