/** Login managers against a token server: whose tokens are taken, how they are kept, renewed by one process at a time, and dropped. */
import assert from 'node:assert/strict';
import {
  chmod,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rm,
  rmdir,
  stat,
  writeFile,
} from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { systemClock } from '../../src/base/clock.ts';
import type { Clock } from '../../src/base/clock.ts';
import { AuthError, ConfigError, UnavailableError } from '../../src/base/errors.ts';
import { DEVICE_GRANT, SEARCH_SCOPE } from '../../src/protocol/oauth.ts';
import type { DeviceAuthorization } from '../../src/protocol/oauth.ts';
import { COMPUTE_SCOPE } from '../../src/protocol/rest.ts';
import { DefaultLoginManager, StaticTokenLoginManager } from '../../src/sdk/login/index.ts';
import type { DefaultLoginOptions } from '../../src/sdk/login/index.ts';
import { LoginFile } from '../../src/sdk/login/login-file.ts';
import { PersonLogin } from '../../src/sdk/login/person-login.ts';
import { PersonGrants } from '../../src/transport/oauth/person-grants.ts';
import { warningOf } from '../support/root-hooks.ts';
import { runProgram } from '../support/stack.ts';
import { TokenServer } from '../support/token-server.ts';

const LOGIN_PROCESS = fileURLToPath(new URL('../support/login-process.js', import.meta.url));

/** The time of this machine, ahead by what the test says; timers are not. */
class AheadClock implements Clock {
  aheadMs = 0;
  readonly after = systemClock.after;
  readonly now = (): number => systemClock.now() + this.aheadMs;
  readonly monotonicMs = (): number => systemClock.monotonicMs() + this.aheadMs;
}

describe('login managers', () => {
  let server: TokenServer;
  let home: string;
  let clock: AheadClock;
  let shown: DeviceAuthorization[];
  beforeEach(async () => {
    server = await TokenServer.start();
    home = await mkdtemp(join(tmpdir(), 'outpost-login-'));
    clock = new AheadClock();
    shown = [];
  });
  afterEach(async () => {
    await server.stop();
    await rm(home, { recursive: true, force: true });
  });

  function manager(more: DefaultLoginOptions = {}): DefaultLoginManager {
    return new DefaultLoginManager({
      hubUrl: server.url,
      environment: { OUTPOST_HOME: home },
      interactive: true,
      show: (device) => shown.push(device),
      clock,
      retries: 0,
      ...more,
    });
  }

  async function kept(): Promise<{ readonly refreshToken: string }> {
    const { hubs } = JSON.parse(await readFile(join(home, 'logins.json'), 'utf8')) as {
      hubs: Record<string, { tokens: { refreshToken: string }[] }>;
    };
    const [first] = hubs[server.url]?.tokens ?? [];
    assert.ok(first !== undefined);
    return first;
  }

  async function token(login: DefaultLoginManager, refresh = false): Promise<string> {
    return await login.getAuthorizer(COMPUTE_SCOPE).accessToken({ refresh });
  }

  describe('the default one', () => {
    it('takes client credentials of the environment, whatever login is kept', async () => {
      await manager().ensureLoggedIn();
      for (const prefix of ['OUTPOST', 'GLOBUS_COMPUTE', 'FUNCX_SDK']) {
        const environment = {
          OUTPOST_HOME: home,
          [`${prefix}_CLIENT_ID`]: '7c1de0a4-53b8-4f0c-9d5e-0b6f2f3a6c11',
          [`${prefix}_CLIENT_SECRET`]: 'secret',
        };
        const before = server.grants('client_credentials');
        await token(manager({ environment, interactive: false }));
        assert.equal(server.grants('client_credentials'), before + 1);
      }
    });

    it('shows a person where to sign in, once, and keeps the login for their other programs', async () => {
      server.pollErrors = ['authorization_pending', 'authorization_pending'];
      const first = manager();
      const [one, two] = await Promise.all([token(first), token(first)]);
      assert.equal(one, two);
      assert.deepEqual(
        shown.map((device) => device.user_code),
        ['BCDF-GHJK'],
      );
      assert.equal(await token(manager({ interactive: false })), one);
      assert.equal(server.grants(DEVICE_GRANT), 3);
      const search = await manager({ interactive: false })
        .getAuthorizer(SEARCH_SCOPE)
        .accessToken();
      assert.notEqual(search, one);
    });

    it('keeps tokens where nobody else reads them, and refuses a file that others can read', async () => {
      await manager().ensureLoggedIn();
      const path = join(home, 'logins.json');
      assert.equal((await stat(path)).mode & 0o777, 0o600);
      assert.deepEqual(await readdir(home), ['logins.json']);
      await chmod(path, 0o640);
      await assert.rejects(token(manager()), (error: unknown) => {
        assert.ok(error instanceof ConfigError);
        assert.match(error.message, /chmod 600/);
        return true;
      });
    });

    // A job that waits for somebody to type would wait for ever.
    it('fails at once where nobody can be asked, and says what to type', async () => {
      await assert.rejects(token(manager({ interactive: false })), (error: unknown) => {
        assert.ok(error instanceof AuthError);
        assert.equal(error.code, 'CREDENTIALS_MISSING');
        assert.equal(error.exitCode, 77);
        assert.match(error.message, /agent login/);
        assert.match(error.message, /OUTPOST_CLIENT_ID/);
        return true;
      });
      assert.deepEqual(server.requests, []);
    });

    it('says so when the person refused, and keeps nothing', async () => {
      server.pollErrors = ['access_denied'];
      await assert.rejects(manager().ensureLoggedIn(), { code: 'TOKEN_REJECTED' });
      assert.deepEqual(await readdir(home), []);
    });

    it('goes on asking while the hub is away for a moment', async () => {
      server.pollErrors = ['authorization_pending'];
      const signingIn = manager({
        show: () => {
          server.brokenStatus = 503;
          clock.after(100, () => {
            server.brokenStatus = undefined;
          });
        },
      }).ensureLoggedIn();
      await signingIn;
    });

    it('renews a token at half its life, and not before', async () => {
      const login = manager();
      const first = await token(login);
      clock.aheadMs = 490_000;
      assert.equal(await token(login), first);
      clock.aheadMs = 510_000;
      const second = await token(login);
      assert.notEqual(second, first);
      assert.equal(await token(manager({ interactive: false })), second);
      assert.equal(server.grants('refresh_token'), 1);
    });

    it('does with the old token while the hub is away, as long as it lives', async () => {
      const login = manager();
      const first = await token(login);
      server.brokenStatus = 503;
      clock.aheadMs = 600_000;
      assert.equal(await token(login), first);
      clock.aheadMs = 1_000_000;
      await assert.rejects(token(login), UnavailableError);
      server.brokenStatus = undefined;
      assert.notEqual(await token(login), first);
    });

    // Weeks of an unattended program: every token is renewed long before the hub refuses it.
    it('keeps a login alive through many lives of its tokens', async () => {
      const login = manager();
      await login.ensureLoggedIn();
      const seen = new Set<string>();
      for (let life = 0; life < 20; life += 1) {
        clock.aheadMs += 501_000;
        seen.add(await token(login));
      }
      assert.equal(seen.size, 20);
      assert.equal(shown.length, 1);
    });

    it('renews once for all processes that share a login', async () => {
      await manager().ensureLoggedIn();
      const env = { PATH: process.env['PATH'], OUTPOST_HOME: home };
      const runs = await Promise.all(
        [1, 2, 3, 4].map(
          async () =>
            await runProgram(process.execPath, [LOGIN_PROCESS, server.url, '600000'], { env }),
        ),
      );
      const tokens = new Set(runs.map(({ stdout, stderr }) => stdout + stderr));
      assert.equal(tokens.size, 1, [...tokens].join(' | '));
      assert.equal(server.grants('refresh_token'), 1);
    });

    it('takes over the lock of a process that died with it', async () => {
      const login = manager();
      await login.ensureLoggedIn();
      const dead = { host: hostname(), pid: 2 ** 22 + 1, nonce: 'gone' };
      await writeFile(join(home, 'logins.json.lock'), JSON.stringify(dead));
      await token(login, true);
      assert.deepEqual(await readdir(home), ['logins.json']);
    });

    it('forgets a login that the hub has ended, and says how to sign in again', async () => {
      const login = manager();
      await token(login);
      server.endLogin();
      await assert.rejects(token(login, true), (error: unknown) => {
        assert.ok(error instanceof AuthError);
        assert.equal(error.code, 'TOKEN_REJECTED');
        assert.match(error.message, /Sign in again with: agent login/);
        return true;
      });
      assert.ok(!(await readFile(join(home, 'logins.json'), 'utf8')).includes('access'));
    });

    it('gets new tokens when it is forced, for a person and for a client', async () => {
      const person = manager();
      const first = await token(person);
      await person.ensureLoggedIn({ force: true });
      assert.notEqual(await token(person), first);
      assert.equal(shown.length, 2);
      const client = manager({ clientId: 'id', clientSecret: 'secret' });
      const ofClient = await token(client);
      await client.ensureLoggedIn();
      assert.equal(await token(client), ofClient);
      await client.ensureLoggedIn({ force: true });
      assert.notEqual(await token(client), ofClient);
    });

    it('ends the login before at the hub when it is forced, and goes on without a hub to tell', async () => {
      const person = manager();
      await person.ensureLoggedIn();
      const { refreshToken } = await kept();
      await person.ensureLoggedIn({ force: true });
      const { path, form } = server.requests.at(-1) ?? {};
      assert.equal(path, 'token/revoke');
      assert.equal(form?.['token'], refreshToken);
      const second = await token(person);
      // Another program of the same user has the new one at once, without a request that fails.
      assert.equal(await token(manager({ interactive: false })), second);
      server.brokenPaths.add('token/revoke');
      const warning = await warningOf(async () => {
        await person.ensureLoggedIn({ force: true });
      });
      assert.match(warning.message, /the login before could not be ended at the hub/);
      assert.notEqual(await token(person), second);
    });

    it('takes over at once what another program has changed', async () => {
      const [one, other] = [manager(), manager({ interactive: false })];
      const first = await token(one);
      assert.equal(await token(other), first);
      await one.ensureLoggedIn({ force: true });
      assert.notEqual(await token(other), first);
      await one.logout();
      await assert.rejects(token(other), { code: 'CREDENTIALS_MISSING' });
    });

    it('does not go on as somebody else', async () => {
      await manager().ensureLoggedIn();
      const file = new LoginFile(join(home, 'logins.json'), clock);
      const grants = new PersonGrants({ hubUrl: server.url, appId: 'app', clock, retries: 0 });
      const asBob = new PersonLogin({ file, grants, clock, identityId: 'bob-id' });
      await assert.rejects(asBob.authorizer(COMPUTE_SCOPE).accessToken(), (error: unknown) => {
        assert.ok(error instanceof AuthError);
        assert.match(error.message, /now has the login of ada .* this program began as bob-id/);
        return true;
      });
      const asAda = new PersonLogin({ file, grants, clock, identityId: 'ada-id' });
      assert.equal(await asAda.authorizer(COMPUTE_SCOPE).accessToken(), await token(manager()));
    });

    // The hub forgets the old token when it grants the next one: one that nobody can write down would be lost.
    it('renews nothing when the new token could not be written down, and does with the old one', async () => {
      const login = manager();
      const first = await token(login);
      const lock = join(home, 'logins.json.lock');
      // In the place of a full disk: no lock can be made here, by nobody.
      await mkdir(lock);
      clock.aheadMs = 600_000;
      assert.equal(await token(login), first);
      assert.equal(server.grants('refresh_token'), 0);
      await rmdir(lock);
      assert.notEqual(await token(login), first);
    });

    it('keeps a login that the hub has a question about, and not that it ended', async () => {
      const login = manager();
      await token(login);
      server.refusal = 'invalid_client';
      await assert.rejects(token(login, true), AuthError);
      server.refusal = undefined;
      await token(login, true);
      assert.equal(shown.length, 1);
    });

    it('ends the login at the hub when it logs out', async () => {
      const login = manager({ interactive: false });
      await manager().ensureLoggedIn();
      await token(login);
      await login.logout();
      assert.equal(server.requests.at(-1)?.path, 'token/revoke');
      await assert.rejects(token(login), { code: 'CREDENTIALS_MISSING' });
    });

    it('refuses half a pair of credentials instead of signing in as somebody else', async () => {
      await manager().ensureLoggedIn();
      const environment = { OUTPOST_HOME: home, OUTPOST_CLIENT_ID: 'id' };
      await assert.rejects(token(manager({ environment })), ConfigError);
    });
  });

  describe('the static one', () => {
    it('serves the token of each scope, and says what is missing or was refused', async () => {
      const login = new StaticTokenLoginManager({ [COMPUTE_SCOPE]: 'mine' });
      await login.ensureLoggedIn();
      assert.equal(await login.getAuthorizer(COMPUTE_SCOPE).accessToken(), 'mine');
      await assert.rejects(login.getAuthorizer(SEARCH_SCOPE).accessToken(), {
        code: 'SCOPE_MISSING',
      });
      await assert.rejects(login.getAuthorizer(COMPUTE_SCOPE).accessToken({ refresh: true }), {
        code: 'TOKEN_REJECTED',
      });
      await assert.rejects(login.ensureLoggedIn({ force: true }), { code: 'TOKEN_REJECTED' });
      await login.logout();
    });
  });
});
