/** The unmodified @globus/sdk (Globus's SDK for JavaScript) against its five routes of the Compute service. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { compute } from '@globus/sdk';

import { Stack } from '../support/stack.ts';

/** The variable by which the SDK finds a service that is not Globus's own. */
const URL_VARIABLE = 'GLOBUS_SDK_SERVICE_URL_COMPUTE';

describe('the unmodified @globus/sdk', function () {
  let stack: Stack;
  let authorization: { Authorization: string };
  let urlBefore: string | undefined;

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    urlBefore = process.env[URL_VARIABLE];
    process.env[URL_VARIABLE] = stack.hubUrl;
    authorization = await signIn(stack.client);
  });

  after(async () => {
    if (urlBefore === undefined) {
      Reflect.deleteProperty(process.env, URL_VARIABLE);
    } else {
      process.env[URL_VARIABLE] = urlBefore;
    }
    await stack.stop();
  });

  /** Globus's JavaScript SDK signs people in with a browser; this is what a service of one's own does. */
  async function signIn({
    id,
    secret,
  }: {
    id: string;
    secret: string;
  }): Promise<{ Authorization: string }> {
    const response = await fetch(`${stack.hubUrl}/v2/oauth2/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` },
      body: new URLSearchParams({
        grant_type: 'client_credentials',
        scope: compute.CONFIG.SCOPES.ALL,
      }),
    });
    const token = (await response.json()) as { access_token: string; resource_server: string };
    assert.equal(token.resource_server, 'funcx_service');
    return { Authorization: `Bearer ${token.access_token}` };
  }

  /** The SDK registers no endpoints; agents do. */
  async function registerEndpoint(name: string): Promise<string> {
    const response = await fetch(`${stack.hubUrl}/v3/endpoints`, {
      method: 'POST',
      headers: { ...authorization, 'content-type': 'application/json' },
      body: JSON.stringify({ endpoint_name: name, metadata: { hostname: 'login1' } }),
    });
    return ((await response.json()) as { endpoint_id: string }).endpoint_id;
  }

  it('has no route that is not tried here', () => {
    assert.deepEqual(Object.keys(compute.endpoints).sort(), [
      ...['get', 'getAll', 'getStatus', 'remove', 'update'],
    ]);
  });

  it('lists endpoints, with the role as a query', async () => {
    const id = await registerEndpoint('listed');
    for (const role of ['owner', 'any'] as const) {
      const response = await compute.endpoints.getAll({ query: { role }, headers: authorization });
      assert.equal(response.status, 200);
      const found = (await response.json()).find(({ uuid }) => uuid === id);
      assert.deepEqual(found, {
        uuid: id,
        name: 'listed',
        display_name: 'listed',
        owner: stack.client.id,
      });
    }
  });

  it('reads an endpoint and its status', async () => {
    const id = await registerEndpoint('read');
    const read = await compute.endpoints.get(id, { headers: authorization });
    const document = await read.json();
    assert.equal(document.uuid, id);
    assert.equal(document.hostname, 'login1');
    const status = await compute.endpoints.getStatus(id, { headers: authorization });
    assert.deepEqual(await status.json(), { status: 'offline' });
  });

  it('changes single fields of an endpoint and leaves the others', async () => {
    const id = await registerEndpoint('changed');
    const response = await compute.endpoints.update(id, {
      payload: { display_name: 'Changed', public: true },
      headers: authorization,
    });
    assert.equal(response.status, 200);
    const document = await (await compute.endpoints.get(id, { headers: authorization })).json();
    assert.equal(document.name, 'changed');
    assert.equal(document.display_name, 'Changed');
    assert.equal(document.public, true);
    assert.equal(document.hostname, 'login1');
  });

  it('deletes an endpoint', async () => {
    const id = await registerEndpoint('deleted');
    const response = await compute.endpoints.remove(id, { headers: authorization });
    assert.deepEqual(await response.json(), { result: 302 });
    assert.equal((await compute.endpoints.get(id, { headers: authorization })).status, 404);
  });

  it('gets the error body of the service, field by field', async () => {
    const id = randomUUID();
    const { endpoints } = compute;
    for (const response of [
      await endpoints.get(id, { headers: authorization }),
      await endpoints.getStatus(id, { headers: authorization }),
      await endpoints.update(id, { payload: { display_name: 'x' }, headers: authorization }),
      await endpoints.remove(id, { headers: authorization }),
    ]) {
      assert.equal(response.ok, false);
      const detail = `Endpoint ${id} could not be found`;
      assert.deepEqual(await response.json(), {
        status: 'Failed',
        code: 'ENDPOINT_NOT_FOUND',
        error_args: [],
        http_status_code: 404,
        detail,
        reason: detail,
      });
    }
  });

  it('is asked for a token when it has none', async () => {
    const response = await compute.endpoints.getAll();
    assert.equal(response.status, 401);
    assert.match(response.headers.get('www-authenticate') ?? '', /^Bearer/);
  });
});
