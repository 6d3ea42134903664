/** Agents that sign in as a person: no client credentials anywhere, one login for all of them, and what becomes of them without it. */
import assert from 'node:assert/strict';
import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { AuthError, Client, DefaultLoginManager, Executor } from '../../src/sdk/index.ts';
import { agentLogin } from '../support/agent-login.ts';
import { eventually } from '../support/eventually.ts';
import { Stack, runProgram } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';

const CLI = fileURLToPath(new URL('../../src/cli/', import.meta.url));
const PASSWORD = 'correct horse battery';
/** For an agent to notice, and for the hub's sweep before it. */
const NOTICED_MS = 180_000;

type Json = Readonly<Record<string, unknown>>;

describe('an agent that signs in as a person', function () {
  this.timeout(240_000);
  let stack: Stack;
  let client: Client;
  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    for (const name of ['ada', 'bob']) {
      const outcome = await hub(['user', 'create', name, '--password-file', '-'], PASSWORD);
      assert.equal(outcome.code, 0, outcome.stderr);
    }
    client = new Client({
      hubUrl: stack.hubUrl,
      loginManager: new DefaultLoginManager({
        hubUrl: stack.hubUrl,
        environment: stack.agentEnvironment,
        interactive: false,
      }),
      throttlingEnabled: false,
    });
  });
  after(async () => {
    const outcomes = [];
    for (const name of ['one', 'two']) {
      outcomes.push(await stack.agentCommand('stop', name));
    }
    await stack.stop();
    for (const { code, stderr } of outcomes) {
      assert.equal(code, 0, stderr);
    }
  });

  async function hub(args: readonly string[], input = ''): Promise<CommandOutcome> {
    const env = stack.environment;
    return await runProgram(process.execPath, [join(CLI, 'hub.js'), ...args], { env, input });
  }

  async function login(username: string): Promise<void> {
    const env = { ...stack.agentEnvironment, OUTPOST_HUB_URL: stack.hubUrl };
    const outcome = await agentLogin(env, { username, password: PASSWORD });
    assert.equal(outcome.code, 0, outcome.stderr);
  }

  async function agent(...args: string[]): Promise<Json> {
    const outcome = await stack.agentCommand(...args, '--json');
    assert.equal(outcome.code, 0, outcome.stdout + outcome.stderr);
    return JSON.parse(outcome.stdout) as Json;
  }

  async function untilOffline(name: string, why: RegExp): Promise<void> {
    await eventually(async () => {
      const status = await agent('status', name);
      assert.equal(status['state'], 'offline', JSON.stringify(status));
      assert.match(String(status['reason']), why);
    }, NOTICED_MS);
  }

  async function untilOnline(name: string): Promise<void> {
    await eventually(async () => {
      assert.equal((await agent('status', name))['state'], 'online');
    }, NOTICED_MS);
  }

  /** Runs until the test lets it go. */
  function heldTask(executor: Executor, name: string) {
    return executor.submit(
      async (path: string) => {
        const fs = await import('node:fs');
        fs.writeFileSync(`${path}.began`, '');
        while (!fs.existsSync(path)) {
          await new Promise((resolve) => {
            setTimeout(resolve, 20);
          });
        }
        return 'done';
      },
      join(stack.home, name),
    );
  }

  it('is told to sign in when there is nothing to sign in with', async () => {
    for (const name of ['one', 'two']) {
      const settings = ['--hub-url', stack.hubUrl, '--heartbeat-period-s', '1'];
      const outcome = await stack.agentCommand('configure', name, ...settings);
      assert.equal(outcome.code, 0, outcome.stderr);
      assert.match(outcome.stdout, /Next: agent login/);
    }
    const start = await stack.agentCommand('start', 'one');
    assert.equal(start.code, 77);
    assert.match(start.stderr, /OUTPOST_CLIENT_ID/);
    assert.match(start.stderr, /To sign in at http:\S+ as yourself: agent login/);
  });

  it('starts with a login alone, several of them with the same', async () => {
    await login('ada');
    assert.match(String((await agent('config', 'validate', 'one'))['credentials']), /login of ada/);
    for (const name of ['one', 'two']) {
      const { endpoint_id: id } = await agent('start', name);
      const me = await agent('whoami', name);
      assert.equal(me['kind'], 'person');
      assert.equal(me['username'], 'ada');
      assert.match(String(me['source']), /^login of ada in .*logins\.json$/);
      const { owner } = await client.getEndpointSharing(String(id));
      assert.equal(owner, me['identity_id']);
      const executor = new Executor({ client, endpointId: String(id) });
      assert.equal(await executor.submit((x: number) => x + 1, 41), 42);
      await executor.shutdown();
    }
    const doctor = await stack.agentCommand('doctor', 'one', '--json');
    assert.match(doctor.stdout, /login of ada/);
  });

  it('takes no tasks and finishes what runs when its person signs out, until they sign in again', async () => {
    const { endpoint_id: id } = await agent('status', 'one');
    const executor = new Executor({ client, endpointId: String(id) });
    const running = heldTask(executor, 'signed-out');
    await eventually(async () => {
      await access(join(stack.home, 'signed-out.began'));
    });
    await stack.agentCommand('logout', '--hub-url', stack.hubUrl);
    await untilOffline('one', /run `agent login` on a terminal/);
    await untilOffline('two', /run `agent login` on a terminal/);
    await writeFile(join(stack.home, 'signed-out'), '');
    // Somebody else's login is not taken for it.
    await login('bob');
    await untilOffline('one', /now has the login of bob/);
    await login('ada');
    await untilOnline('one');
    await untilOnline('two');
    assert.equal(await running, 'done');
    assert.equal(await executor.submit((x: number) => x + 1, 1), 2);
    await executor.shutdown();
  });

  it('is cut off by a new password, and goes on after the next login', async () => {
    const { endpoint_id: id } = await agent('status', 'one');
    const executor = new Executor({ client, endpointId: String(id) });
    const running = heldTask(executor, 'new-password');
    await eventually(async () => {
      await access(join(stack.home, 'new-password.began'));
    });
    const changed = await hub(['user', 'password', 'ada', '--password-file', '-'], PASSWORD);
    assert.equal(changed.code, 0, changed.stderr);
    await untilOffline('one', /Sign in again with: agent login|run `agent login` on a terminal/);
    await writeFile(join(stack.home, 'new-password'), '');
    await assert.rejects(running, AuthError);
    await login('ada');
    await untilOnline('one');
    await untilOnline('two');
    const again = new Executor({ client, endpointId: String(id) });
    assert.equal(await again.submit((x: number) => x + 1, 2), 3);
    await again.shutdown();
    await executor.shutdown();
  });

  it('renews the login for all of them, one refresh token after the other', async () => {
    const path = join(stack.home, '.outpost', 'logins.json');
    const kept = await readFile(path, 'utf8');
    // As if half a life of the tokens had passed; both agents look at the file, and neither may spoil it for the other.
    const aged = kept.replaceAll(/"issuedAtMs": \d+/g, '"issuedAtMs": 0');
    await writeFile(path, aged.replaceAll(/"expiresAtMs": \d+/g, `"expiresAtMs": ${Date.now()}`));
    await eventually(async () => {
      const { hubs } = JSON.parse(await readFile(path, 'utf8')) as {
        hubs: Record<string, { tokens: { issuedAtMs: number }[] }>;
      };
      assert.notEqual(hubs[stack.hubUrl]?.tokens[0]?.issuedAtMs, 0);
    }, NOTICED_MS);
    for (const name of ['one', 'two']) {
      await agent('restart', name);
      await untilOnline(name);
      assert.equal((await agent('whoami', name))['username'], 'ada');
    }
  });
});
