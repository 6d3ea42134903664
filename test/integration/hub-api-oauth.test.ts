import assert from 'node:assert/strict';

import { COMPUTE_SCOPE } from '../../src/protocol/rest.ts';
import { assertRefused, basicAuthorization, TestHub } from './hub-api-support.ts';

const MANAGE_PROJECTS = 'urn:globus:auth:scope:auth.globus.org:manage_projects';

describe('the token endpoint of the hub', () => {
  let hub: TestHub;
  before(async () => {
    hub = await TestHub.start();
  });
  after(async () => {
    await hub.stop();
  });

  it('grants exactly one token for one resource server', async () => {
    const token = await hub.token(await hub.createClient(), `${COMPUTE_SCOPE} ${COMPUTE_SCOPE}`);
    assert.deepEqual(Object.keys(token).sort(), [
      'access_token',
      'expires_in',
      'other_tokens',
      'resource_server',
      'scope',
      'token_type',
    ]);
    assert.equal(token.scope, COMPUTE_SCOPE);
    assert.equal(token.resource_server, 'funcx_service');
    assert.equal(token.expires_in, 172_800);
    assert.deepEqual(token.other_tokens, []);
  });

  it('puts the tokens of further resource servers into other_tokens', async () => {
    const token = await hub.token(
      await hub.createClient(),
      `${COMPUTE_SCOPE} openid ${MANAGE_PROJECTS}`,
    );
    assert.equal(token.resource_server, 'funcx_service');
    assert.equal(token.other_tokens.length, 1);
    assert.equal(token.other_tokens[0]?.resource_server, 'auth.globus.org');
    assert.equal(token.other_tokens[0].scope, `openid ${MANAGE_PROJECTS}`);
    assert.notEqual(token.other_tokens[0].access_token, token.access_token);
  });

  it('takes the credentials from the form too', async () => {
    const client = await hub.createClient();
    const answer = await hub.form('/v2/oauth2/token', {
      grant_type: 'client_credentials',
      scope: COMPUTE_SCOPE,
      client_id: client.id,
      client_secret: client.secret,
    });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('cache-control'), 'no-store');
  });

  it('refuses a wrong secret, an unknown client and no client with invalid_client', async () => {
    const client = await hub.createClient();
    const fields = { grant_type: 'client_credentials', scope: COMPUTE_SCOPE };
    const headers: Record<string, string>[] = [
      { authorization: basicAuthorization(client.id, 'wrong') },
      { authorization: basicAuthorization(crypto.randomUUID(), client.secret) },
      { authorization: basicAuthorization('no-uuid', client.secret) },
      {},
    ];
    for (const header of headers) {
      const answer = await hub.form('/v2/oauth2/token', fields, header);
      assert.equal(answer.status, 401);
      assert.equal(answer.body['error'], 'invalid_client');
      assert.match(answer.headers.get('www-authenticate') ?? '', /^Basic /);
    }
  });

  it('refuses an unknown scope and an unknown grant by their names', async () => {
    const client = await hub.createClient();
    const header = { authorization: basicAuthorization(client.id, client.secret) };
    const scope = await hub.form(
      '/v2/oauth2/token',
      { grant_type: 'client_credentials', scope: 'nonsense' },
      header,
    );
    assert.equal(scope.status, 400);
    assert.equal(scope.body['error'], 'invalid_scope');
    const grant = await hub.form('/v2/oauth2/token', { grant_type: 'password' }, header);
    assert.equal(grant.status, 400);
    assert.equal(grant.body['error'], 'unsupported_grant_type');
  });

  // A client that was deleted must not get in on a verification that was remembered.
  it('refuses a client that was deleted', async () => {
    const client = await hub.createClient();
    await hub.token(client);
    await hub.clients.delete(client.id);
    const answer = await hub.form(
      '/v2/oauth2/token',
      { grant_type: 'client_credentials', scope: COMPUTE_SCOPE },
      { authorization: basicAuthorization(client.id, client.secret) },
    );
    assert.equal(answer.status, 401);
  });

  it('stores neither tokens nor secrets', async () => {
    const client = await hub.createClient();
    const token = await hub.token(client);
    const rows = [
      ...(await hub.db.selectFrom('clients').selectAll().execute()),
      ...(await hub.db.selectFrom('access_tokens').selectAll().execute()),
    ];
    const text = JSON.stringify(rows);
    assert.ok(!text.includes(client.secret));
    assert.ok(!text.includes(token.access_token));
  });

  it('answers 401 with a challenge to a token that is missing, unknown or expired', async () => {
    const client = await hub.createClient();
    const { access_token: expired } = await hub.token(client);
    await hub.db
      .updateTable('access_tokens')
      .set({ expires_at: new Date(Date.now() - 1000) })
      .where('client_id', '=', client.id)
      .execute();
    for (const authorization of [undefined, 'Bearer nonsense', 'Basic eDp5', `Bearer ${expired}`]) {
      const answer = await hub.call(
        'GET',
        '/v2/endpoints',
        undefined,
        authorization === undefined ? {} : { authorization },
      );
      assertRefused(answer, 401, 'USER_UNAUTHENTICATED');
      assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer /);
    }
  });

  it('refuses a token for the identity scopes on Compute routes', async () => {
    const { access_token: token } = await hub.token(await hub.createClient(), 'openid');
    const answer = await hub.call('GET', '/v2/endpoints', undefined, {
      authorization: `Bearer ${token}`,
    });
    assertRefused(answer, 403, 'INSUFFICIENT_AUTH_SCOPE');
  });

  it('revokes a token at once', async () => {
    const client = await hub.createClient();
    const { access_token: token } = await hub.token(client);
    const bearer = { authorization: `Bearer ${token}` };
    assert.equal((await hub.call('GET', '/v2/authenticate', undefined, bearer)).status, 200);
    const revoked = await hub.form(
      '/v2/oauth2/token/revoke',
      { token },
      { authorization: basicAuthorization(client.id, client.secret) },
    );
    assert.equal(revoked.status, 200);
    assert.equal((await hub.call('GET', '/v2/authenticate', undefined, bearer)).status, 401);
  });

  it('tells who signed in', async () => {
    const client = await hub.createClient();
    const { access_token: token } = await hub.token(client, 'openid');
    const bearer = { authorization: `Bearer ${token}` };
    const { body } = await hub.call('GET', '/v2/oauth2/userinfo', undefined, bearer);
    assert.equal(body['sub'], client.id);
    assert.equal(body['name'], client.name);
    const [identity] = body['identity_set'] as Record<string, unknown>[];
    assert.equal(identity?.['sub'], client.id);
    const found = await hub.call('GET', `/v2/api/identities?ids=${client.id}`, undefined, bearer);
    const [document] = found.body['identities'] as Record<string, unknown>[];
    assert.equal(document?.['name'], client.name);
    assert.equal(document['username'], body['preferred_username']);
  });

  it('introspects a token for a client', async () => {
    const client = await hub.createClient();
    const { access_token: token } = await hub.token(client);
    const header = { authorization: basicAuthorization(client.id, client.secret) };
    const live = await hub.form('/v2/oauth2/token/introspect', { token }, header);
    assert.equal(live.body['active'], true);
    assert.equal(live.body['client_id'], client.id);
    const dead = await hub.form('/v2/oauth2/token/introspect', { token: 'x' }, header);
    assert.deepEqual(dead.body, { active: false });
  });

  it('lets a client that only runs endpoints do nothing else', async () => {
    const agent = await hub.person({ endpointOnly: true });
    const registered = await agent.call('POST', '/v3/endpoints', { endpoint_name: 'default' });
    assert.equal(registered.status, 200);
    const id = String(registered.body['endpoint_id']);
    assert.equal((await agent.call('GET', `/v2/endpoints/${id}/status`)).status, 200);
    for (const [method, path, body] of [
      ['POST', '/v3/functions', {}],
      ['POST', `/v3/endpoints/${id}/submit`, { tasks: {} }],
      ['GET', '/v2/get_amqp_result_connection_url', undefined],
      ['POST', '/v2/batch_status', { task_ids: [] }],
    ] as const) {
      assertRefused(
        await agent.call(method, path, body),
        403,
        'INSUFFICIENT_AUTH_SCOPE',
        /may only run endpoints/,
      );
    }
  });
});
