/** A person from `hub user create` to `agent logout`, by the commands, with a browser that the test is. */
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { agentLogin } from '../support/agent-login.ts';
import { Stack, runProgram } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';

const CLI = fileURLToPath(new URL('../../src/cli/', import.meta.url));
const PASSWORD = 'correct horse battery';

type Json = Record<string, unknown>;

function json(outcome: CommandOutcome): Json {
  assert.equal(outcome.code, 0, outcome.stdout + outcome.stderr);
  return JSON.parse(outcome.stdout) as Json;
}

describe('the sign-in of a person', function () {
  this.timeout(240_000);
  let stack: Stack;
  before(async () => {
    stack = await Stack.start({ hubOnly: true });
  });
  after(async () => {
    await stack.stop();
  });

  async function hub(args: readonly string[], input = ''): Promise<CommandOutcome> {
    const env = stack.environment;
    return await runProgram(process.execPath, [join(CLI, 'hub.js'), ...args], { env, input });
  }

  function agentEnvironment(): NodeJS.ProcessEnv {
    return { ...stack.agentEnvironment, OUTPOST_HUB_URL: stack.hubUrl };
  }

  async function agent(...args: string[]): Promise<CommandOutcome> {
    const env = agentEnvironment();
    return await runProgram(process.execPath, [join(CLI, 'agent.js'), ...args], { env });
  }

  async function login(username: string): Promise<CommandOutcome> {
    return await agentLogin(agentEnvironment(), { username, password: PASSWORD });
  }

  it('goes from the account to the end of the login', async () => {
    const created = json(
      await hub(
        ['user', 'create', 'ada', '--email', 'ada@example.org', '--password-file', '-', '--json'],
        `${PASSWORD}\n`,
      ),
    );
    const signedIn = json(await login('ada'));
    assert.equal(signedIn['identity_id'], created['identity_id']);
    assert.equal((await stat(String(signedIn['file']))).mode & 0o777, 0o600);
    const me = json(await agent('whoami', '--json'));
    assert.equal(me['identity_id'], created['identity_id']);
    assert.equal(me['username'], 'ada');
    assert.equal(me['email'], 'ada@example.org');
    assert.equal(me['kind'], 'person');
    assert.equal(me['hub_url'], stack.hubUrl);
    assert.match(String(me['source']), /^login of ada in .*logins\.json$/);
    assert.equal(json(await agent('logout', '--json'))['signed_out'], true);
    assert.equal(json(await agent('logout', '--json'))['signed_out'], false);
    const nobody = await agent('whoami');
    assert.equal(nobody.code, 77);
    assert.match(nobody.stderr, /agent login/);
  });

  it('ends with the account', async () => {
    await hub(['user', 'create', 'grace', '--password-file', '-'], PASSWORD);
    json(await login('grace'));
    assert.equal((await hub(['user', 'disable', 'grace'])).code, 0);
    const outcome = await agent('whoami');
    assert.equal(outcome.code, 77);
    assert.match(outcome.stderr, /Sign in again with: agent login/);
    const { users } = json(await hub(['user', 'list', '--json'])) as { users: Json[] };
    assert.equal(users.find((user) => user['username'] === 'grace')?.['disabled'], true);
    const undone = json(await hub(['user', 'disable', 'grace', '--undo', '--json']));
    assert.equal(undone['disabled'], false);
    assert.equal(
      (await hub(['user', 'password', 'grace', '--password-file', '-'], PASSWORD)).code,
      0,
    );
  });

  it('fails at once without a terminal, and says what to type', async () => {
    const outcome = await agent('login');
    assert.equal(outcome.code, 77);
    assert.match(outcome.stderr, /agent login --no-browser/);
    const user = await hub(['user', 'create', 'mallory']);
    assert.equal(user.code, 77);
    assert.match(user.stderr, /--password-file/);
  });

  it('refuses a username or a password that cannot be one', async () => {
    for (const [name, password] of [
      ['ada@uni.example', PASSWORD],
      ['Ada', PASSWORD],
      ['bob', 'short'],
      ['bob', ` ${PASSWORD}`],
    ] as const) {
      const outcome = await hub(['user', 'create', name, '--password-file', '-'], password);
      assert.equal(outcome.code, 64, outcome.stderr);
    }
  });
});
