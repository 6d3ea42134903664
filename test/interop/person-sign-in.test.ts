/** A person signs in with the unmodified globus-compute-sdk: authorization code, PKCE, the code copied from the hub's page, renewal. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { packageRoot } from '../../src/base/package-root.ts';
import { eventually } from '../support/eventually.ts';
import { browse, submitForm } from '../support/sign-in.ts';
import { Stack, runProgram } from '../support/stack.ts';

/** The unmodified SDK knows no other port. */
const SDK_PORT = 5000;
const PASSWORD = 'correct horse battery';
const HUB = fileURLToPath(new URL('../../src/cli/hub.js', import.meta.url));
const PROGRAM = join(packageRoot(), 'test/interop/python/person_sign_in.py');

describe('a person with the unmodified globus-compute-sdk', () => {
  let stack: Stack;
  before(async () => {
    stack = await Stack.start({ hubOnly: true, port: SDK_PORT });
  });
  after(async () => {
    await stack.stop();
  });

  it('signs in at the hub, registers a function, and stays signed in', async () => {
    const python = process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '';
    assert.notEqual(python, '', 'OUTPOST_TEST_SDK_PYTHON is not set: run `npm test -- interop`');
    const created = await runProgram(
      process.execPath,
      [
        HUB,
        ...[
          'user',
          'create',
          'ada',
          '--email',
          'ada@example.org',
          '--password-file',
          '-',
          '--json',
        ],
      ],
      { env: stack.environment, input: PASSWORD },
    );
    assert.equal(created.code, 0, created.stderr);
    const { identity_id: id } = JSON.parse(created.stdout) as { identity_id: string };
    const child = spawn(python, ['-u', PROGRAM], {
      env: {
        PATH: process.env['PATH'],
        HOME: stack.home,
        GLOBUS_SDK_SERVICE_URL_AUTH: `${stack.hubUrl}/`,
        PYTHONDONTWRITEBYTECODE: '1',
      },
      stdio: 'pipe',
    });
    const output = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
    const ended = once(child, 'close');
    const url = await eventually(() => {
      const found = /^\s*(http\S+\/v2\/oauth2\/authorize\S+)/m.exec(output.stdout)?.[1];
      assert.ok(found !== undefined, output.stdout + output.stderr);
      return found;
    }, 60_000);
    const agreed = await submitForm(url, await browse(url), {
      username: 'ada',
      password: PASSWORD,
    });
    assert.equal(agreed.status, 303, agreed.text);
    const page = await browse(agreed.location?.href ?? '');
    // Nothing follows: to be asked a second time would fail.
    child.stdin.end(`${/<code>([^<]+)<\/code>/.exec(page.text)?.[1] ?? ''}\n`);
    const [code] = (await ended) as [number | null];
    assert.equal(code, 0, output.stdout + output.stderr);
    const report = JSON.parse(/\{.*\}/.exec(output.stdout)?.[0] ?? '') as unknown;
    assert.deepEqual(report, { sub: id, email: 'ada@example.org', function: 'greet' });
  });
});
