import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ConfigError } from '../../../src/base/errors.ts';
import { packageRoot } from '../../../src/base/package-root.ts';
import {
  hubEnvironment,
  readDatabaseSettings,
  readHubConfig,
  readHubStartConfig,
} from '../../../src/config/hub-config.ts';
import { HUB_VARIABLES } from '../../../src/config/hub-variables.ts';
import { TLS_CERTIFICATE_PEM, TLS_KEY_PEM } from '../../support/tls-fixture.ts';

const SERVICES = {
  OUTPOST_DATABASE_URL: 'postgresql://u:p@db:5432/outpost',
  OUTPOST_AMQP_URL: 'amqp://u:p@mq:5672/v',
  OUTPOST_AMQP_MANAGEMENT_URL: 'http://u:p@mq:15672',
};

function problemsOf(read: () => unknown): ConfigError {
  try {
    read();
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error;
  }
  return assert.fail('nothing was wrong');
}

describe('settings of the hub', () => {
  it('have defaults for everything but the services', () => {
    const config = readHubStartConfig(SERVICES);
    assert.equal(config.host, 'localhost');
    assert.equal(config.port, 5000);
    assert.equal(config.publicUrl, undefined);
    assert.equal(config.tls, undefined);
    assert.equal(config.retentionMs, 14 * 24 * 3600 * 1000);
    assert.equal(config.services.amqpPublicUrl, SERVICES.OUTPOST_AMQP_URL);
    assert.ok(Object.isFrozen(config));
  });

  it('are reported with all their problems at once', () => {
    const error = problemsOf(() =>
      readHubStartConfig({
        OUTPOST_AMQP_URL: 'http://mq',
        OUTPOST_AMQP_MANAGEMENT_URL: SERVICES.OUTPOST_AMQP_MANAGEMENT_URL,
        OUTPOST_HUB_PORT: '99999',
        OUTPOST_HUB_URL: 'nonsense',
        OUTPOST_HUB_RETENTION_DAYS: '1.5',
        OUTPOST_HUB_LOG_LEVEL: 'loud',
        OUTPOST_HUB_TLS_CERT_FILE: '/does/not/exist.pem',
        OUTPOST_HOME: 'relative',
      }),
    );
    assert.deepEqual(error.problems.map((problem) => problem.key).sort(), [
      'OUTPOST_AMQP_URL',
      'OUTPOST_DATABASE_URL',
      'OUTPOST_HOME',
      'OUTPOST_HUB_LOG_LEVEL',
      'OUTPOST_HUB_PORT',
      'OUTPOST_HUB_RETENTION_DAYS',
      'OUTPOST_HUB_TLS_CERT_FILE',
      'OUTPOST_HUB_TLS_KEY_FILE',
      'OUTPOST_HUB_URL',
    ]);
    assert.equal(error.exitCode, 78);
    assert.match(
      error.message,
      /OUTPOST_HUB_PORT \(environment\) = 99999: expected a whole number/,
    );
  });

  it('never show a password in a problem', () => {
    const error = problemsOf(() =>
      readHubStartConfig({ ...SERVICES, OUTPOST_DATABASE_URL: 'mysql://u:hunter2@db/x' }),
    );
    assert.match(error.message, /mysql:\/\/u:\*\*\*@db\/x/);
    assert.ok(!error.message.includes('hunter2'));
  });

  it('read certificate, key and authorities, and name those that cannot be used', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'outpost-hub-tls-'));
    const [cert, key, wrong] = ['cert', 'key', 'wrong'].map((name) => join(directory, name));
    assert.ok(cert !== undefined && key !== undefined && wrong !== undefined);
    try {
      await writeFile(cert, TLS_CERTIFICATE_PEM);
      await writeFile(key, TLS_KEY_PEM);
      await writeFile(wrong, 'no key');
      const variables = { OUTPOST_HUB_TLS_CERT_FILE: cert, OUTPOST_HUB_TLS_KEY_FILE: key };
      const config = readHubConfig({ ...variables, OUTPOST_CA_FILE: cert });
      assert.equal(config.ca?.trim(), TLS_CERTIFICATE_PEM.trim());
      assert.deepEqual(config.tls?.reload(), { cert: TLS_CERTIFICATE_PEM, key: TLS_KEY_PEM });
      const error = problemsOf(() =>
        readHubConfig({
          ...variables,
          OUTPOST_HUB_TLS_KEY_FILE: wrong,
          OUTPOST_CA_FILE: key,
          OUTPOST_AMQP_CA_FILE: cert,
        }),
      );
      assert.match(error.message, /OUTPOST_CA_FILE .*certificates as PEM/);
      assert.match(error.message, /OUTPOST_AMQP_CA_FILE .*to be called OUTPOST_CA_FILE by now/);
      assert.match(
        error.message,
        /OUTPOST_HUB_TLS_CERT_FILE .*belongs to the key of OUTPOST_HUB_TLS_KEY_FILE/,
      );
      // Renewed files of which one is not there yet: whoever looks again keeps what it has.
      await writeFile(key, 'half a key');
      assert.throws(() => config.tls?.reload(), ConfigError);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('take an empty text for unset', () => {
    assert.equal(readHubConfig({ OUTPOST_HUB_PORT: '', OUTPOST_HUB_HOST: ' ' }).port, 5000);
    assert.equal(readDatabaseSettings({ OUTPOST_DATABASE_URL: '' }).url, undefined);
  });

  it('lose the slash at the end of the public URL', () => {
    assert.equal(readHubConfig({ OUTPOST_HUB_URL: 'https://hub/' }).publicUrl, 'https://hub');
  });

  describe('in a file', () => {
    let directory: string;
    before(async () => {
      directory = await mkdtemp(join(tmpdir(), 'outpost-hub-config-'));
    });
    after(async () => {
      await rm(directory, { recursive: true });
    });

    it('give way to the environment', async () => {
      const path = join(directory, 'hub.env');
      await writeFile(path, 'OUTPOST_HUB_PORT=6000\nOUTPOST_HUB_HOST=10.0.0.1\n', { mode: 0o600 });
      const config = readHubConfig(await hubEnvironment({ OUTPOST_HUB_PORT: '7000' }, path));
      assert.equal(config.port, 7000);
      assert.equal(config.host, '10.0.0.1');
    });

    it('are refused when others can read them', async () => {
      const path = join(directory, 'open.env');
      await writeFile(path, 'OUTPOST_HUB_PORT=6000\n', { mode: 0o644 });
      await assert.rejects(hubEnvironment({}, path), /chmod 600/);
    });

    it('must be there when named', async () => {
      await assert.rejects(hubEnvironment({}, join(directory, 'absent.env')), ConfigError);
    });
  });
});

describe('docs/hub.md', () => {
  it('names every variable of the hub', async () => {
    const text = await readFile(join(packageRoot(), 'docs', 'hub.md'), 'utf8');
    const missing = Object.values(HUB_VARIABLES)
      .map((variable) => variable.name)
      .filter((name) => !text.includes(`| \`${name}\` `));
    assert.deepEqual(missing, []);
  });
});
