/** Sharing, groups, discovery, environments and logins through the SDK, against a real hub. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { systemClock } from '../../src/base/clock.ts';
import {
  AuthError,
  COMPUTE_SCOPE,
  Client,
  ConflictError,
  StaticTokenLoginManager,
  UsageError,
} from '../../src/sdk/index.ts';
import type { ClientOptions, LoginManager } from '../../src/sdk/index.ts';
import { clientCredentialsTokenSource } from '../../src/transport/oauth/client-credentials.ts';
import { Stack } from '../support/stack.ts';
import type { ClientCredentials } from '../support/stack.ts';

describe('SDK at a hub with several people', () => {
  let stack: Stack;
  let friend: ClientCredentials;
  let owner: Client;
  let guest: Client;

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    friend = await stack.createClient('friend');
    owner = clientOf(stack.client);
    guest = clientOf(friend);
  });

  after(async () => {
    await stack.stop();
  });

  function clientOf({ id, secret }: ClientCredentials, options: ClientOptions = {}): Client {
    return new Client({
      hubUrl: stack.hubUrl,
      clientId: id,
      clientSecret: secret,
      throttlingEnabled: false,
      environment: {},
      ...options,
    });
  }

  async function accessToken(): Promise<string> {
    return await clientCredentialsTokenSource({
      tokenEndpoint: `${stack.hubUrl}/v2/oauth2/token`,
      clientId: friend.id,
      clientSecret: () => friend.secret,
      scope: COMPUTE_SCOPE,
      clock: systemClock,
    }).accessToken();
  }

  it('shares a function with a group, and takes it back', async () => {
    const fn = await owner.registerFunction((x: number) => x, {
      name: 'same',
      description: 'Sameness itself',
    });
    await assert.rejects(guest.getFunction(fn), AuthError);
    const group = await owner.createGroup('Lab', 'People of the lab');
    await owner.addGroupMembers(group.id, [friend.id]);
    assert.deepEqual(
      (await guest.getGroups()).map(({ id }) => id),
      [group.id],
    );
    assert.equal((await guest.getGroup(group.id)).memberships?.length, 2);
    const { groups } = await owner.shareFunction(fn, { group: group.id });
    assert.deepEqual(groups, [{ id: group.id, name: 'Lab' }]);
    assert.equal((await guest.getFunction(fn))['function_uuid'], fn.id);
    assert.equal((await guest.searchFunction('sameness')).total, 1);

    await owner.unshareFunction(fn, { group: group.id });
    await assert.rejects(guest.getFunction(fn), AuthError);
    await owner.shareFunction(fn, { public: true });
    assert.equal((await owner.getFunctionSharing(fn)).public, true);
    assert.equal((await guest.getFunction(fn))['function_name'], 'same');
    await assert.rejects(owner.shareFunction(fn, {}), UsageError);
    await assert.rejects(guest.shareFunction(fn, { public: true }), AuthError);

    await owner.removeGroupMembers(group.id, [friend.id]);
    assert.deepEqual(await guest.getGroups(), []);
    await assert.rejects(owner.addGroupMembers(group.id, [randomUUID()]), ConflictError);
    await assert.rejects(owner.addGroupMembers(group.id, ['nobody']), /nobody/);
    await owner.deleteGroup(group.id);
    await owner.deleteFunction(fn);
    await assert.rejects(owner.getFunction(fn), ConflictError);
  });

  it('finds functions by their descriptions, page by page, and one’s own without', async () => {
    const word = `zebra${randomUUID().slice(0, 4)}`;
    for (const name of ['one', 'two', 'three']) {
      await owner.registerFunction(() => 1, { name, description: `About a ${word}`, public: true });
    }
    await owner.registerFunction(() => 1, { name: 'hidden', description: word });
    const first = await guest.searchFunction(word, { limit: 2 });
    assert.deepEqual([first.total, first.count, first.has_next_page], [3, 2, true]);
    const rest = await guest.searchFunction(word, { offset: 2, limit: 2 });
    const names = [...first.results, ...rest.results].map(({ function_name: name }) => name);
    assert.deepEqual(names.sort(), ['one', 'three', 'two']);
    const own = await owner.getFunctions({ limit: 1 });
    assert.equal(own.results[0]?.function_name, 'hidden');
  });

  it('registers environments, and functions that run in one', async () => {
    const id = await owner.registerContainer('/opt/venv', 'venv', 'tools', 'Our tools');
    const { type, location, name, description } = await owner.getContainer(id);
    assert.deepEqual(
      [type, location, name, description],
      ['venv', '/opt/venv', 'tools', 'Our tools'],
    );
    const fn = await owner.registerFunction(() => 1, { container: id });
    assert.equal(typeof fn.id, 'string');
    await assert.rejects(guest.getContainer(id), AuthError);
    await owner.deleteContainer(id);
    assert.deepEqual(await owner.getContainers(), []);
  });

  it('signs in with the login manager it is given, before the first request and when forced', async () => {
    const token = await accessToken();
    const client = new Client({
      hubUrl: stack.hubUrl,
      environment: {},
      loginManager: new StaticTokenLoginManager({ [Client.FUNCX_SCOPE]: token }),
    });
    await client.registerFunction(() => 1);

    const calls: string[] = [];
    const counting: LoginManager = {
      ensureLoggedIn: async ({ force = false } = {}) => {
        calls.push(force ? 'forced' : 'login');
        await Promise.resolve();
      },
      logout: async () => {
        calls.push('logout');
        await Promise.resolve();
      },
      getAuthorizer: () => ({ accessToken: async () => await Promise.resolve(token) }),
    };
    const forced = new Client({
      hubUrl: stack.hubUrl,
      environment: {},
      loginManager: counting,
      forceLogin: true,
    });
    assert.deepEqual(calls, []);
    await Promise.all([forced.getFunctions(), forced.getGroups()]);
    assert.deepEqual(calls, ['forced']);
    await forced.logout();
    await forced.getGroups();
    await forced.ensureLoggedIn({ force: true });
    assert.deepEqual(calls, ['forced', 'logout', 'login', 'forced']);
  });

  it('gets a new token with forceLogin, and says at once when nobody can be signed in', async () => {
    const seen = new Set<string>();
    const noting: typeof fetch = async (input, init) => {
      seen.add(new Headers(init?.headers).get('authorization') ?? '');
      return await fetch(input, init);
    };
    const client = clientOf(friend, { fetch: noting, forceLogin: true });
    await client.getGroups();
    await client.ensureLoggedIn({ force: true });
    await client.getGroups();
    assert.equal([...seen].filter((header) => header.startsWith('Bearer ')).length, 2);
    const nobody = new Client({ hubUrl: stack.hubUrl, environment: { OUTPOST_HOME: stack.home } });
    await assert.rejects(nobody.getGroups(), {
      code: 'CREDENTIALS_MISSING',
      message: /agent login/,
    });
  });
});
