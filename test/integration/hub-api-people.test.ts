/** People sign in over HTTP: authorization code with PKCE, refresh tokens, device codes, and what is refused. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';

import { createLocalJWKSet, jwtVerify } from 'jose';
import type { JSONWebKeySet } from 'jose';
import { sql } from 'kysely';

import { silentLogger } from '../../src/base/logger.ts';
import type { Logger } from '../../src/base/logger.ts';
import { PeopleRegistry } from '../../src/hub/auth/people.ts';
import type { Person } from '../../src/hub/auth/people.ts';
import {
  DEVICE_GRANT,
  GLOBUS_COMPUTE_APP_ID,
  OUTPOST_APP_ID,
  SEARCH_SCOPE,
} from '../../src/protocol/oauth.ts';
import type { PersonTokenResponse } from '../../src/protocol/oauth.ts';
import { COMPUTE_SCOPE } from '../../src/protocol/rest.ts';
import { eventually } from '../support/eventually.ts';
import { browse, pkcePair, submitForm } from '../support/sign-in.ts';
import type { BrowserAnswer, Typed } from '../support/sign-in.ts';
import { TestHub, assertRefused } from './hub-api-support.ts';
import type { Answer } from './hub-api-support.ts';

const PASSWORD = 'correct horse battery';
const REDIRECT = 'http://127.0.0.1:4711/callback';
const SCOPE = `${COMPUTE_SCOPE} openid email`;

describe('people at the hub', () => {
  let hub: TestHub;
  let people: PeopleRegistry;
  let names = 0;
  const logged: string[] = [];
  before(async () => {
    const note = (fields: object, message: string): void => {
      logged.push(JSON.stringify({ ...fields, message }));
    };
    const logger: Logger = { ...silentLogger, debug: note, info: note, child: () => logger };
    hub = await TestHub.start({}, logger);
    people = new PeopleRegistry(hub.db);
  });
  after(async () => {
    await hub.stop();
  });

  async function newPerson(): Promise<{ person: Person; typed: Typed }> {
    names += 1;
    const username = `person-${names}`;
    const person = await people.create({
      username,
      password: PASSWORD,
      name: `Person <${names}>`,
      email: `${username}@example.org`,
    });
    return { person, typed: { username, password: PASSWORD } };
  }

  function authorizeUrl(changes: Record<string, string | undefined> = {}): string {
    const parameters: Record<string, string | undefined> = {
      client_id: GLOBUS_COMPUTE_APP_ID,
      redirect_uri: REDIRECT,
      scope: SCOPE,
      state: '_default',
      response_type: 'code',
      code_challenge: pkcePair().challenge,
      code_challenge_method: 'S256',
      access_type: 'offline',
      ...changes,
    };
    const url = new URL(`${hub.url}/v2/oauth2/authorize`);
    for (const [name, value] of Object.entries(parameters)) {
      if (value !== undefined) {
        url.searchParams.set(name, value);
      }
    }
    return url.href;
  }

  async function agree(url: string, typed: Typed): Promise<BrowserAnswer> {
    return await submitForm(url, await browse(url), typed);
  }

  async function codeFor(typed: Typed, challenge: string, redirect = REDIRECT): Promise<string> {
    const url = authorizeUrl({ code_challenge: challenge, redirect_uri: redirect });
    const answer = await agree(url, typed);
    assert.equal(answer.status, 303, answer.text);
    return answer.location?.searchParams.get('code') ?? '';
  }

  async function exchange(code: string, verifier: string, more = {}): Promise<Answer> {
    return await hub.form('/v2/oauth2/token', {
      grant_type: 'authorization_code',
      client_id: GLOBUS_COMPUTE_APP_ID,
      code,
      code_verifier: verifier,
      redirect_uri: REDIRECT,
      ...more,
    });
  }

  async function signIn(typed: Typed): Promise<PersonTokenResponse> {
    const { verifier, challenge } = pkcePair();
    const answer = await exchange(await codeFor(typed, challenge), verifier);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body as unknown as PersonTokenResponse;
  }

  async function refresh(token: string): Promise<Answer> {
    return await hub.form('/v2/oauth2/token', {
      grant_type: 'refresh_token',
      client_id: GLOBUS_COMPUTE_APP_ID,
      refresh_token: token,
    });
  }

  async function statusOf(token: string, path = '/v2/authenticate'): Promise<number> {
    const answer = await hub.call('GET', path, undefined, { authorization: `Bearer ${token}` });
    return answer.status;
  }

  describe('with a code', () => {
    it('get one token with a refresh token for each resource server, and an id_token', async () => {
      const { person, typed } = await newPerson();
      const tokens = await signIn(typed);
      assert.equal(tokens.resource_server, 'funcx_service');
      assert.deepEqual(
        tokens.other_tokens.map((token) => [token.resource_server, token.scope]),
        [['auth.globus.org', 'openid email']],
      );
      for (const token of [tokens, ...tokens.other_tokens]) {
        assert.equal(typeof token.refresh_token, 'string');
      }
      const discovery = await hub.call('GET', '/.well-known/openid-configuration');
      const keys = await hub.call('GET', new URL(String(discovery.body['jwks_uri'])).pathname);
      const { payload, protectedHeader } = await jwtVerify(
        tokens.id_token ?? '',
        createLocalJWKSet(keys.body as unknown as JSONWebKeySet),
        { issuer: String(discovery.body['issuer']), audience: GLOBUS_COMPUTE_APP_ID },
      );
      assert.equal(protectedHeader.alg, 'RS256');
      assert.equal(payload.sub, person.id);
      assert.equal(payload['email'], person.email);
      const userinfo = await hub.call('GET', '/v2/oauth2/userinfo', undefined, {
        authorization: `Bearer ${tokens.other_tokens[0]?.access_token ?? ''}`,
      });
      assert.equal(userinfo.body['sub'], person.id);
      assert.equal(userinfo.body['email'], person.email);
      assert.equal(await statusOf(tokens.access_token), 200);
    });

    it('are found by id and by username', async () => {
      const { person, typed } = await newPerson();
      const { access_token: token } = await signIn(typed);
      const caller = hub.personWith(person.id, token);
      for (const query of [`ids=${person.id}`, `usernames=${person.username}`]) {
        const { body } = await caller.call('GET', `/v2/api/identities?${query}`);
        const [identity] = body['identities'] as Record<string, unknown>[];
        assert.equal(identity?.['id'], person.id);
        assert.equal(identity['name'], person.name);
      }
    });

    it('are looked up a hundred at a time, and none is left out in silence', async () => {
      const asker = await hub.person();
      const names = Array.from({ length: 101 }, (_, index) => `nobody-${index}`);
      const path = '/v2/api/identities?usernames=';
      assert.equal((await asker.call('GET', path + names.slice(1).join(','))).status, 200);
      assertRefused(
        await asker.call('GET', path + names.join(',')),
        422,
        'SEMANTICALLY_INVALID',
        /101.*100 is the most/,
      );
    });

    it('own what they register', async () => {
      const { person, typed } = await newPerson();
      const { access_token: token } = await signIn(typed);
      const caller = hub.personWith(person.id, token);
      const answer = await caller.call('POST', '/v3/endpoints', { endpoint_name: 'mine' });
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
      const row = await hub.db
        .selectFrom('endpoints')
        .select('owner_id')
        .where('id', '=', String(answer.body['endpoint_id']))
        .executeTakeFirstOrThrow();
      assert.equal(row.owner_id, person.id);
    });

    it('copy the code from a page of the hub when nothing listens for it', async () => {
      const { typed } = await newPerson();
      const { verifier, challenge } = pkcePair();
      const redirect = `${hub.url}/v2/web/auth-code`;
      const url = authorizeUrl({ code_challenge: challenge, redirect_uri: redirect });
      const { location } = await agree(url, typed);
      const page = await browse(location?.href ?? '');
      const code = /<code>([^<]+)<\/code>/.exec(page.text)?.[1] ?? '';
      const answer = await exchange(code, verifier, { redirect_uri: redirect });
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
    });

    // The page must not be a way to put somebody else's markup before a person who is about to type a password.
    it('see nothing on the pages that an address put there', async () => {
      const evil = '"><script>alert(1)</script>';
      const page = await browse(authorizeUrl({ prefill_named_grant: evil, state: evil }));
      assert.equal(page.status, 200);
      assert.ok(!page.text.includes('<script'));
      const policy = page.headers.get('content-security-policy') ?? '';
      assert.match(policy, /default-src 'none'/);
      const style = /<style>([^<]*)<\/style>/.exec(page.text)?.[1] ?? '';
      const hash = createHash('sha256').update(style).digest('base64');
      assert.ok(
        policy.includes(`style-src 'sha256-${hash}'`),
        'the style is not the one that the policy allows',
      );
      assert.match(policy, /frame-ancestors 'none'/);
      assert.equal(page.headers.get('cache-control'), 'no-store');
      const code = await browse(`${hub.url}/v2/web/auth-code?code=${encodeURIComponent(evil)}`);
      assert.ok(!code.text.includes('<script'));
    });

    it('are asked on a page, not sent elsewhere, when application or redirect_uri are not known', async () => {
      for (const [changes, problem] of [
        [{ client_id: crypto.randomUUID() }, /client_id/],
        [{ redirect_uri: 'https://evil.example/v2/web/auth-code' }, /redirect_uri/],
        [{ redirect_uri: 'http://evil.example/' }, /redirect_uri/],
        [{ redirect_uri: `${hub.url}v2/web/auth-code` }, /slash/],
      ] as const) {
        const page = await browse(authorizeUrl(changes));
        assert.ok([400, 401].includes(page.status), page.text);
        assert.match(page.text, problem);
        assert.equal(page.location, undefined);
      }
    });

    it('send the application a refusal that it can read', async () => {
      const { typed } = await newPerson();
      for (const [changes, error] of [
        [{ code_challenge: undefined }, 'invalid_request'],
        [{ code_challenge_method: 'plain' }, 'invalid_request'],
        [{ code_challenge: 'short' }, 'invalid_request'],
        [{ response_type: 'token' }, 'unsupported_response_type'],
        [{ scope: 'nonsense' }, 'invalid_scope'],
      ] as const) {
        const { status, location } = await browse(authorizeUrl(changes));
        assert.equal(status, 303);
        assert.ok(location !== undefined);
        assert.equal(location.origin + location.pathname, REDIRECT);
        assert.equal(location.searchParams.get('error'), error);
        assert.equal(location.searchParams.get('state'), '_default');
      }
      const refused = await agree(authorizeUrl(), { ...typed, decision: 'deny' });
      assert.equal(refused.location?.searchParams.get('error'), 'access_denied');
    });

    it('are refused a form that a page of another site sent', async () => {
      const { typed } = await newPerson();
      const url = authorizeUrl();
      const page = await browse(url);
      const answer = await submitForm(url, page, typed, { 'sec-fetch-site': 'cross-site' });
      assert.equal(answer.status, 400);
      assert.equal(answer.location, undefined);
    });

    it('need the verifier, the redirect_uri and the application of the request', async () => {
      const { typed } = await newPerson();
      const { verifier, challenge } = pkcePair();
      const code = await codeFor(typed, challenge);
      for (const more of [
        { code_verifier: pkcePair().verifier },
        { code_verifier: challenge.slice(0, 20) },
        { redirect_uri: 'http://127.0.0.1:4712/callback' },
        { client_id: OUTPOST_APP_ID },
        { code: 'nonsense' },
      ]) {
        const answer = await exchange(code, verifier, more);
        assert.equal(answer.status, 400);
        assert.equal(answer.body['error'], 'invalid_grant', JSON.stringify(answer.body));
      }
      assert.equal((await exchange(code, verifier)).status, 200);
    });

    it('lose the login when its code is presented a second time', async () => {
      const { typed } = await newPerson();
      const { verifier, challenge } = pkcePair();
      const code = await codeFor(typed, challenge);
      const first = (await exchange(code, verifier)).body as unknown as PersonTokenResponse;
      assert.equal(await statusOf(first.access_token), 200);
      const second = await exchange(code, verifier);
      assert.equal(second.body['error'], 'invalid_grant');
      assert.equal(await statusOf(first.access_token), 401);
      assert.equal((await refresh(first.refresh_token)).body['error'], 'invalid_grant');
    });

    it('are too late with a code that has expired', async () => {
      const { person, typed } = await newPerson();
      const { verifier, challenge } = pkcePair();
      const code = await codeFor(typed, challenge);
      await hub.db
        .updateTable('authorization_codes')
        .set({ expires_at: sql<Date>`now() - interval '1 second'` })
        .where('person_id', '=', person.id)
        .execute();
      const answer = await exchange(code, verifier);
      assert.match(String(answer.body['error_description']), /expired/);
    });
  });

  describe('with a refresh token', () => {
    it('get one token and the next refresh token', async () => {
      const { typed } = await newPerson();
      const first = await signIn(typed);
      const second = await refresh(first.refresh_token);
      assert.equal(second.status, 200, JSON.stringify(second.body));
      assert.deepEqual(second.body['other_tokens'], []);
      assert.equal(second.body['scope'], first.scope);
      assert.notEqual(second.body['refresh_token'], first.refresh_token);
      assert.equal(await statusOf(String(second.body['access_token'])), 200);
      assert.equal(await statusOf(first.access_token), 200);
    });

    // A client that did not get the answer asks again; two processes that share a store ask at the same time.
    it('may use it again within half a minute', async () => {
      const { typed } = await newPerson();
      const first = await signIn(typed);
      const answers = await Promise.all(
        [1, 2, 3].map(async () => await refresh(first.refresh_token)),
      );
      assert.deepEqual(
        answers.map(({ status }) => status),
        [200, 200, 200],
      );
    });

    it('lose the login when it is used again later', async () => {
      const { typed } = await newPerson();
      const first = await signIn(typed);
      const second = (await refresh(first.refresh_token)).body as unknown as PersonTokenResponse;
      await hub.db
        .updateTable('refresh_tokens')
        .set({ replaced_at: sql<Date>`replaced_at - interval '1 minute'` })
        .where('replaced_at', 'is not', null)
        .execute();
      const reused = await refresh(first.refresh_token);
      assert.equal(reused.body['error'], 'invalid_grant');
      assert.match(String(reused.body['error_description']), /used before/);
      assert.equal(await statusOf(second.access_token), 401);
      assert.equal((await refresh(second.refresh_token)).status, 400);
    });

    it('are refused one that expired, one of another application, and one that was revoked', async () => {
      const { person, typed } = await newPerson();
      const tokens = await signIn(typed);
      const other = await hub.form('/v2/oauth2/token', {
        grant_type: 'refresh_token',
        client_id: OUTPOST_APP_ID,
        refresh_token: tokens.refresh_token,
      });
      assert.equal(other.body['error'], 'invalid_grant');
      const revoked = await hub.form('/v2/oauth2/token/revoke', {
        token: tokens.refresh_token,
        client_id: GLOBUS_COMPUTE_APP_ID,
      });
      assert.equal(revoked.status, 200);
      assert.equal((await refresh(tokens.refresh_token)).body['error'], 'invalid_grant');
      assert.equal(await statusOf(tokens.access_token), 401);
      const again = await signIn(typed);
      await hub.db
        .updateTable('refresh_tokens')
        .set({ expires_at: sql<Date>`now() - interval '1 second'` })
        .where('login_id', 'in', (query) =>
          query.selectFrom('logins').select('id').where('person_id', '=', person.id),
        )
        .execute();
      assert.equal((await refresh(again.refresh_token)).body['error'], 'invalid_grant');
    });
  });

  describe('with a password', () => {
    it('are told the same whether the username or the password is wrong', async () => {
      const { typed } = await newPerson();
      const url = authorizeUrl();
      const pages = await Promise.all(
        [
          { ...typed, password: 'wrong password' },
          { username: 'nobody', password: PASSWORD },
        ].map(async (wrong) => await agree(url, wrong)),
      );
      for (const page of pages) {
        assert.equal(page.status, 403);
        assert.match(page.text, /do not let anybody in/);
      }
    });

    it('wait after five wrong ones, also with the right one, and nobody else waits', async () => {
      const { typed } = await newPerson();
      const other = await newPerson();
      const url = authorizeUrl();
      for (let attempt = 0; attempt < 5; attempt += 1) {
        assert.equal((await agree(url, { ...typed, password: 'wrong password' })).status, 403);
      }
      const refused = await agree(url, typed);
      assert.equal(refused.status, 429);
      assert.ok(Number(refused.headers.get('retry-after')) > 60);
      assert.equal((await agree(url, other.typed)).status, 303);
    });

    it('are shut out when they are disabled: no login, no renewal, no token', async () => {
      const { person, typed } = await newPerson();
      const tokens = await signIn(typed);
      const { verifier, challenge } = pkcePair();
      const code = await codeFor(typed, challenge);
      await people.setDisabled(person.id, true);
      assert.equal((await agree(authorizeUrl(), typed)).status, 403);
      assert.equal((await refresh(tokens.refresh_token)).body['error'], 'invalid_grant');
      assert.equal((await exchange(code, verifier)).body['error'], 'invalid_grant');
      assert.equal(await statusOf(tokens.access_token), 401);
      await people.setDisabled(person.id, false);
      assert.equal((await agree(authorizeUrl(), typed)).status, 303);
    });

    it('are signed out everywhere by a new one', async () => {
      const { person, typed } = await newPerson();
      const tokens = await signIn(typed);
      await people.setPassword(person, 'another password');
      assert.equal(await statusOf(tokens.access_token), 401);
      assert.equal((await refresh(tokens.refresh_token)).status, 400);
      assert.equal((await agree(authorizeUrl(), typed)).status, 403);
    });

    // For half a minute a hub process takes a token that it remembers; credentials at the broker would go on for good.
    it('get no credentials at the broker any more for a token of before that the hub remembers', async () => {
      const { person, typed } = await newPerson();
      const { access_token: token } = await signIn(typed);
      assert.equal(await statusOf(token), 200);
      await people.setPassword(person, 'another password');
      assert.equal(await statusOf(token), 200);
      const caller = hub.personWith(person.id, token);
      const registered = await caller.call('POST', '/v3/endpoints', { endpoint_name: 'mine' });
      assert.equal(registered.status, 401);
      assert.equal(await statusOf(token, '/v2/get_amqp_result_connection_url'), 401);
    });

    it('end also what was agreed to with the old one and not fetched yet', async () => {
      const { person, typed } = await newPerson();
      const { verifier, challenge } = pkcePair();
      const code = await codeFor(typed, challenge);
      await people.setPassword(person, 'another password');
      assert.equal((await exchange(code, verifier)).body['error'], 'invalid_grant');
    });

    it('leave neither passwords nor tokens in the database', async () => {
      const { typed } = await newPerson();
      const tokens = await signIn(typed);
      const tables = ['people', 'access_tokens', 'refresh_tokens', 'authorization_codes'] as const;
      const rows = await Promise.all(
        tables.map(async (table) => await hub.db.selectFrom(table).selectAll().execute()),
      );
      const text = JSON.stringify(rows);
      for (const secret of [PASSWORD, tokens.access_token, tokens.refresh_token]) {
        assert.ok(!text.includes(secret));
      }
    });
  });

  describe('with a device code', () => {
    async function ask(): Promise<Answer['body']> {
      const answer = await hub.form('/v2/oauth2/device_authorization', {
        client_id: OUTPOST_APP_ID,
        scope: SCOPE,
      });
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
      return answer.body;
    }

    async function poll(device: Answer['body']): Promise<Answer> {
      return await hub.form('/v2/oauth2/token', {
        grant_type: DEVICE_GRANT,
        client_id: OUTPOST_APP_ID,
        device_code: String(device['device_code']),
      });
    }

    async function letIn(device: Answer['body'], typed: Typed): Promise<BrowserAnswer> {
      const code = String(device['user_code']).toLowerCase().replace('-', ' ');
      return await agree(`${hub.url}/device?user_code=${encodeURIComponent(code)}`, typed);
    }

    it('wait, are let in, and get tokens once', async () => {
      const { person, typed } = await newPerson();
      const device = await ask();
      assert.match(String(device['user_code']), /^[A-Z]{4}-[A-Z]{4}$/);
      assert.equal((await poll(device)).body['error'], 'authorization_pending');
      assert.equal((await letIn(device, typed)).status, 200);
      const granted = await poll(device);
      assert.equal(granted.status, 200, JSON.stringify(granted.body));
      assert.equal(await statusOf(String(granted.body['access_token'])), 200);
      const payload = String(granted.body['id_token']).split('.')[1] ?? '';
      const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { sub: string };
      assert.equal(claims.sub, person.id);
      assert.equal((await poll(device)).body['error'], 'invalid_grant');
    });

    it('are told to slow down when they ask too often', async () => {
      const device = await ask();
      assert.equal((await poll(device)).body['error'], 'authorization_pending');
      assert.equal((await poll(device)).body['error'], 'slow_down');
      const { interval_s: intervalS } = await hub.db
        .selectFrom('device_codes')
        .select('interval_s')
        .where('user_code', '=', String(device['user_code']).replace('-', ''))
        .executeTakeFirstOrThrow();
      assert.equal(intervalS, 10);
    });

    it('are told when the person refused, and when nobody came in time', async () => {
      const { typed } = await newPerson();
      const refused = await ask();
      await letIn(refused, { ...typed, decision: 'deny' });
      assert.equal((await poll(refused)).body['error'], 'access_denied');
      const late = await ask();
      await hub.db
        .updateTable('device_codes')
        .set({ expires_at: sql<Date>`now() - interval '1 second'` })
        .where('user_code', '=', String(late['user_code']).replace('-', ''))
        .execute();
      assert.equal((await poll(late)).body['error'], 'expired_token');
      const page = await browse(`${hub.url}/device?user_code=${String(late['user_code'])}`);
      assert.equal(page.status, 404);
      assert.match(page.text, /No terminal waits/);
    });

    it('get nothing once their person was shut out, also when the person is let in again', async () => {
      const { person, typed } = await newPerson();
      const [before, during] = [await ask(), await ask()];
      assert.equal((await letIn(before, typed)).status, 200);
      assert.equal((await letIn(during, typed)).status, 200);
      // As when the page was answered at the very moment.
      await hub.db
        .updateTable('people')
        .set({ disabled: true })
        .where('id', '=', person.id)
        .execute();
      assert.equal((await poll(during)).body['error'], 'access_denied');
      await people.setDisabled(person.id, true);
      await people.setDisabled(person.id, false);
      assert.equal((await poll(before)).body['error'], 'invalid_grant');
    });

    it('are not let in without the password', async () => {
      const { typed } = await newPerson();
      const device = await ask();
      assert.equal((await letIn(device, { ...typed, password: 'wrong password' })).status, 403);
      assert.equal((await poll(device)).body['error'], 'authorization_pending');
    });
  });

  it('are not looked up by a client that may only run endpoints, nor with a token for something else', async () => {
    const { typed } = await newPerson();
    const path = `/v2/api/identities?usernames=${typed.username}`;
    const limited = await hub.person({ endpointOnly: true });
    assertRefused(await limited.call('GET', path), 403, 'INSUFFICIENT_AUTH_SCOPE');
    assert.equal((await limited.call('GET', '/v2/oauth2/userinfo')).status, 200);
    const client = await hub.createClient();
    const { access_token: token } = await hub.token(client, SEARCH_SCOPE);
    const searcher = hub.personWith(client.id, token);
    assertRefused(await searcher.call('GET', path), 403, 'INSUFFICIENT_AUTH_SCOPE');
  });

  it('leave no code in the log', async () => {
    await browse(`${hub.url}/v2/web/auth-code?code=a-code-of-somebody`);
    await browse(`${hub.url}/device?user_code=BCDF-GHJK`);
    await eventually(() => {
      assert.ok(logged.some((line) => line.includes('/device')));
    });
    const secret = /a-code-of-somebody|BCDF-GHJK/;
    assert.deepEqual(
      logged.filter((line) => secret.test(line)),
      [],
    );
  });

  it('introspects the token of a person for a client', async () => {
    const { person, typed } = await newPerson();
    const tokens = await signIn(typed);
    const client = await hub.createClient();
    const answer = await hub.form('/v2/oauth2/token/introspect', {
      token: tokens.access_token,
      client_id: client.id,
      client_secret: client.secret,
    });
    assert.equal(answer.body['sub'], person.id);
    assert.equal(answer.body['client_id'], GLOBUS_COMPUTE_APP_ID);
    assert.equal(answer.body['username'], person.username);
  });

  it('keeps a token for the identity away from Compute routes', async () => {
    const { typed } = await newPerson();
    const tokens = await signIn(typed);
    const answer = await hub.call('GET', '/v2/endpoints', undefined, {
      authorization: `Bearer ${tokens.other_tokens[0]?.access_token ?? ''}`,
    });
    assertRefused(answer, 403, 'INSUFFICIENT_AUTH_SCOPE');
  });
});
