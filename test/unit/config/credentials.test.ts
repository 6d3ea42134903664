/** Credentials: which source wins, what half a pair is, and that a secret does not print itself. */
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';

import { blankSecrets } from '../../../src/base/blank-secrets.ts';
import { AuthError, ConfigError } from '../../../src/base/errors.ts';
import { findCredentials } from '../../../src/config/credentials.ts';
import {
  backgroundEnvironment,
  workerBaseEnvironment,
} from '../../../src/config/process-context.ts';
import { Secret } from '../../../src/config/secret.ts';

const ID = '0f0e0d0c-0000-4000-8000-000000000001';
const OTHER_ID = '0f0e0d0c-0000-4000-8000-000000000002';

describe('credentials', () => {
  let directory: string;
  let dotenvPath: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'outpost-credentials-'));
    dotenvPath = join(directory, '.env');
  });

  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  async function writeDotenv(text: string, mode = 0o600): Promise<void> {
    await writeFile(dotenvPath, text);
    await chmod(dotenvPath, mode);
  }

  async function problemOf(environment: Record<string, string>) {
    try {
      await findCredentials({ environment, dotenvPath });
    } catch (error) {
      assert.ok(error instanceof ConfigError);
      return { message: error.message, problem: error.problems[0] };
    }
    assert.fail('no problem was found');
  }

  it('take the first pair of the environment, whatever else there is', async () => {
    await writeDotenv(`OUTPOST_CLIENT_ID=${OTHER_ID}\nOUTPOST_CLIENT_SECRET=file\n`);
    const environment = {
      OUTPOST_CLIENT_ID: ID,
      OUTPOST_CLIENT_SECRET: 'first',
      GLOBUS_COMPUTE_CLIENT_ID: OTHER_ID,
      GLOBUS_COMPUTE_CLIENT_SECRET: 'second',
    };
    const credentials = await findCredentials({ environment, dotenvPath });
    assert.equal(credentials.clientId, ID);
    assert.equal((await credentials.clientSecret()).reveal(), 'first');
    assert.equal(credentials.handOver, true);
    assert.deepEqual(credentials.warnings, []);
  });

  it('accept the names of Globus Compute, and the old ones with a warning', async () => {
    const globus = { GLOBUS_COMPUTE_CLIENT_ID: ID, GLOBUS_COMPUTE_CLIENT_SECRET: 's' };
    assert.match((await findCredentials({ environment: globus })).source, /GLOBUS_COMPUTE/);
    const legacy = { FUNCX_SDK_CLIENT_ID: ID, FUNCX_SDK_CLIENT_SECRET: 's' };
    assert.equal((await findCredentials({ environment: legacy })).warnings.length, 1);
  });

  it('name the missing half, and do not fill it from another source', async () => {
    await writeDotenv(`OUTPOST_CLIENT_ID=${ID}\nOUTPOST_CLIENT_SECRET=file\n`);
    assert.equal(
      (await problemOf({ OUTPOST_CLIENT_ID: ID })).problem?.key,
      'OUTPOST_CLIENT_SECRET',
    );
    const environment = { OUTPOST_CLIENT_SECRET: 'x', GLOBUS_COMPUTE_CLIENT_ID: ID };
    assert.equal((await problemOf(environment)).problem?.key, 'OUTPOST_CLIENT_ID');
  });

  it('treat an empty variable as not set', async () => {
    await writeDotenv(`OUTPOST_CLIENT_ID=${ID}\nOUTPOST_CLIENT_SECRET=file\n`);
    const environment = { OUTPOST_CLIENT_ID: '', OUTPOST_CLIENT_SECRET: '' };
    assert.equal((await findCredentials({ environment, dotenvPath })).handOver, false);
  });

  it('come from the systemd credentials before .env', async () => {
    await writeDotenv(`OUTPOST_CLIENT_ID=${OTHER_ID}\nOUTPOST_CLIENT_SECRET=file\n`);
    const systemd = join(directory, 'credentials');
    await mkdir(systemd);
    // The group that shows is the mask of systemd's access control list.
    await writeFile(join(systemd, 'outpost-client-id'), `${ID}\n`, { mode: 0o440 });
    await writeFile(join(systemd, 'outpost-client-secret'), 'from systemd\n', { mode: 0o440 });
    const environment = { CREDENTIALS_DIRECTORY: systemd };
    const credentials = await findCredentials({ environment, dotenvPath });
    assert.equal(credentials.clientId, ID);
    assert.equal((await credentials.clientSecret()).reveal(), 'from systemd');
  });

  it('follow a secret that is rotated in .env', async () => {
    await writeDotenv(`OUTPOST_CLIENT_ID=${ID}\nOUTPOST_CLIENT_SECRET=old\n`);
    const credentials = await findCredentials({ environment: {}, dotenvPath });
    assert.equal((await credentials.clientSecret()).reveal(), 'old');
    await writeDotenv(`OUTPOST_CLIENT_ID=${ID}\nOUTPOST_CLIENT_SECRET=new\n`);
    assert.equal((await credentials.clientSecret()).reveal(), 'new');
    // Another identity halfway would bind the endpoint to another owner.
    await writeDotenv(`OUTPOST_CLIENT_ID=${OTHER_ID}\nOUTPOST_CLIENT_SECRET=new\n`);
    await assert.rejects(credentials.clientSecret(), AuthError);
  });

  it('are refused from a .env that others can read, with the command that mends it', async () => {
    await writeDotenv(`OUTPOST_CLIENT_ID=${ID}\nOUTPOST_CLIENT_SECRET=hunter2\n`, 0o640);
    const { message } = await problemOf({});
    assert.ok(message.includes(`chmod 600 ${dotenvPath}`));
    assert.doesNotMatch(message, /hunter2/);
  });

  it('are refused from a systemd credential that anybody can read', async () => {
    const systemd = join(directory, 'credentials');
    await mkdir(systemd);
    await writeFile(join(systemd, 'outpost-client-id'), ID, { mode: 0o440 });
    await writeFile(join(systemd, 'outpost-client-secret'), 'hunter2');
    await chmod(join(systemd, 'outpost-client-secret'), 0o444);
    const { message } = await problemOf({ CREDENTIALS_DIRECTORY: systemd });
    assert.match(message, /outpost-client-secret .*mode 0444: to be yours alone; run: chmod 600/);
    assert.doesNotMatch(message, /hunter2/);
  });

  it('are refused when they cannot be sent, without being repeated', async () => {
    const swapped = await problemOf({ OUTPOST_CLIENT_ID: 'hunter2', OUTPOST_CLIENT_SECRET: ID });
    assert.match(swapped.message, /swapped/);
    const broken = await problemOf({
      OUTPOST_CLIENT_ID: ID,
      OUTPOST_CLIENT_SECRET: 'hunter2\nX: y',
    });
    assert.doesNotMatch(swapped.message + broken.message, /hunter2/);
  });

  it('are missing with a message that says where to put them', async () => {
    await assert.rejects(
      findCredentials({ environment: {}, dotenvPath }),
      (error: unknown) =>
        error instanceof AuthError &&
        error.code === 'CREDENTIALS_MISSING' &&
        error.exitCode === 77 &&
        error.message.includes(dotenvPath),
    );
  });
});

describe('a secret', () => {
  it('says nothing in any form of printing', () => {
    const secret = new Secret('hunter2');
    const forms = [
      String(secret),
      JSON.stringify({ secret }),
      inspect({ secret }, { showHidden: true, depth: 9 }),
    ];
    for (const form of forms) {
      assert.doesNotMatch(form, /hunter2/);
      assert.match(form, /\[secret\]/);
    }
    assert.equal(secret.reveal(), 'hunter2');
  });

  it('is blanked in log lines where a URL or a header holds it', () => {
    const line = blankSecrets(
      '{"url":"amqps://ep.1:hunter2@broker:5671/v","h":"Bearer hunter2hunter2","ok":"https://hub:443/x"}',
    );
    assert.doesNotMatch(line, /hunter2/);
    assert.match(line, /https:\/\/hub:443\/x/);
    JSON.parse(line);
  });
});

describe('the environment of what is started', () => {
  it('holds no credentials', () => {
    const environment = {
      PATH: '/bin',
      LC_ALL: 'C',
      SLURM_JOB_ID: '7',
      SLURM_JWT: 'hunter2',
      OUTPOST_CLIENT_SECRET: 'hunter2',
      GLOBUS_COMPUTE_CLIENT_SECRET: 'hunter2',
      FUNCX_SDK_CLIENT_SECRET: 'hunter2',
      NOTIFY_SOCKET: '/run/x',
      AWS_SECRET_ACCESS_KEY: 'hunter2',
      OUTPOST_HUB_URL: 'https://h',
    };
    assert.deepEqual(workerBaseEnvironment(environment), {
      PATH: '/bin',
      LC_ALL: 'C',
      SLURM_JOB_ID: '7',
    });
    const background = backgroundEnvironment(environment);
    assert.equal(background['OUTPOST_HUB_URL'], 'https://h');
    assert.equal(
      Object.keys(background).some((name) => name.endsWith('CLIENT_SECRET')),
      false,
    );
  });
});
