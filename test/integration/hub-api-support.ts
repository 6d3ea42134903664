/** A hub of one test file, in this process, on a virtual host and a database of its own, spoken to over HTTP. */
import assert from 'node:assert/strict';

import type { Kysely } from 'kysely';

import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { Logger } from '../../src/base/logger.ts';
import { ClientRegistry } from '../../src/hub/auth/client-registry.ts';
import type { CreatedClient } from '../../src/hub/auth/client-registry.ts';
import { openDatabase } from '../../src/hub/db/database.ts';
import type { HubDatabase } from '../../src/hub/db/schema.ts';
import { Hub } from '../../src/hub/hub.ts';
import type { HubSettings } from '../../src/hub/hub.ts';
import { COMPUTE_SCOPE } from '../../src/protocol/rest.ts';
import type { EndpointRegistered, TokenResponse } from '../../src/protocol/rest.ts';
import { packBuffers } from '../../src/protocol/serialization.ts';
import { createDatabase, createVhost, testServices } from '../support/services.ts';

/** A document whose fields a test looks at. */
export type Json = Record<string, unknown>;

/** An answer of the hub. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Json;
}

/** Somebody with a token. */
export interface Person {
  readonly id: string;
  call: (
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ) => Promise<Answer>;
}

/** A packed function that the hub accepts. */
export const FUNCTION_CODE = packBuffers(['st\nadd:def add_one(x):\n    return x + 1\n']);

/** A running hub and what a test does with it. */
export class TestHub {
  readonly url: string;
  readonly settings: HubSettings;
  readonly db: Kysely<HubDatabase>;
  readonly clients: ClientRegistry;
  readonly #hub: Hub;
  readonly #release: () => Promise<void>;
  #names = 0;

  private constructor(hub: Hub, settings: HubSettings, release: () => Promise<void>) {
    this.#hub = hub;
    this.#release = release;
    this.settings = settings;
    this.url = hub.address.url;
    this.db = openDatabase({ url: settings.databaseUrl, logger: silentLogger });
    this.clients = new ClientRegistry(this.db, systemClock);
  }

  static async start(
    changes: Partial<HubSettings> = {},
    logger: Logger = silentLogger,
  ): Promise<TestHub> {
    const services = testServices();
    const vhost = await createVhost(services.managementUrl);
    const database = await createDatabase(services.databaseUrl);
    const settings: HubSettings = {
      databaseUrl: database.databaseUrl,
      amqpUrl: vhost.amqpUrl,
      amqpPublicUrl: vhost.amqpUrl,
      managementUrl: services.managementUrl,
      host: 'localhost',
      port: 0,
      limits: {
        submissionBytesMax: 1024 * 1024,
        functionBytesMax: 64 * 1024,
        submissionTasksMax: 100,
      },
      retentionMs: 24 * 3600 * 1000,
      ...changes,
    };
    const hub = new Hub(settings, { clock: systemClock, logger });
    await hub.start();
    return new TestHub(hub, settings, async () => {
      await vhost.delete();
      await database.drop();
    });
  }

  async stop(): Promise<void> {
    await this.#hub.stop();
    await this.db.destroy();
    await this.#release();
  }

  async createClient(options: { endpointOnly?: boolean } = {}): Promise<CreatedClient> {
    this.#names += 1;
    return await this.clients.create(`client ${this.#names}`, options);
  }

  /** Posts a form as OAuth clients do. */
  async form(
    path: string,
    fields: Record<string, string>,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await fetch(this.url + path, {
      method: 'POST',
      headers,
      body: new URLSearchParams(fields),
    });
    return await answerOf(response);
  }

  async token(client: CreatedClient, scope = COMPUTE_SCOPE): Promise<TokenResponse> {
    const answer = await this.form(
      '/v2/oauth2/token',
      { grant_type: 'client_credentials', scope },
      { authorization: basicAuthorization(client.id, client.secret) },
    );
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body as unknown as TokenResponse;
  }

  /** Calls a route; `body` is sent as JSON unless it is text, which is sent as it is. */
  async call(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await fetch(this.url + path, {
      method,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined
        ? {}
        : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    return await answerOf(response);
  }

  /** A new client that has signed in. */
  async person(options: { endpointOnly?: boolean } = {}): Promise<Person> {
    const client = await this.createClient(options);
    const { access_token: token } = await this.token(client);
    return this.personWith(client.id, token);
  }

  /** Somebody whose token the test has. */
  personWith(id: string, token: string): Person {
    return {
      id,
      call: async (method, path, body, headers = {}) =>
        await this.call(method, path, body, {
          authorization: `Bearer ${token}`,
          ...headers,
        }),
    };
  }
}

async function answerOf(response: Response): Promise<Answer> {
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: (text === '' ? {} : JSON.parse(text)) as Json,
  };
}

/** The header of HTTP Basic. */
export function basicAuthorization(id: string, secret: string): string {
  return `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`;
}

/** Registers a function and returns its id. */
export async function registerFunction(person: Person, more: Json = {}): Promise<string> {
  const answer = await person.call('POST', '/v3/functions', {
    function_name: 'add_one',
    function_code: FUNCTION_CODE,
    ...more,
  });
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return String(answer.body['function_uuid']);
}

/** Registers a new endpoint. */
export async function registerEndpoint(
  person: Person,
  more: Json = {},
): Promise<EndpointRegistered> {
  const answer = await person.call('POST', '/v3/endpoints', { endpoint_name: 'default', ...more });
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return answer.body as unknown as EndpointRegistered;
}

/** Checks that a request was refused in the shape that every error has. */
export function assertRefused(answer: Answer, status: number, code: string, detail?: RegExp): void {
  assert.equal(answer.status, status, JSON.stringify(answer.body));
  assert.equal(answer.body['code'], code);
  assert.equal(answer.body['status'], 'Failed');
  assert.equal(answer.body['http_status_code'], status);
  assert.equal(typeof answer.body['detail'], 'string');
  assert.equal(answer.body['reason'], answer.body['detail']);
  assert.deepEqual(answer.body['error_args'], []);
  assert.match(answer.headers.get('content-type') ?? '', /^application\/json/);
  if (detail !== undefined) {
    assert.match(String(answer.body['detail']), detail);
  }
}
