/**
 * The hub held to its own OpenAPI document by schemathesis, a client that nobody here wrote: requests as the document allows and
 * forbids them, at every route, with ids that exist and ids that do not. No answer may be a 5xx, have a status, type or body that the
 * document does not know, or take longer than the limit.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { silentLogger } from '../../src/base/logger.ts';
import type { Logger } from '../../src/base/logger.ts';
import {
  basicAuthorization,
  registerEndpoint,
  registerFunction,
  TestHub,
} from '../integration/hub-api-support.ts';
import { FUZZ_EXAMPLES, patienceMs } from '../support/fuzz.ts';

/** The same requests at every run of the suite; `npm run fuzz` takes others. */
const SEED = process.env['FUZZ_SEED'] ?? '20260301';
const EXAMPLES = 4;
const REQUEST_TIMEOUT_S = 10;
/** Share of requests that name an id which exists. */
const KNOWN_ID_PROBABILITY = 0.6;

const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_schema_conformance',
  'response_headers_conformance',
  'negative_data_rejection',
  'ignored_auth',
];

/** The routes in parts that take about as long: what the Globus SDKs call, and the hub's own. */
const PARTS = [
  { title: 'that other clients know', selection: ['--exclude-path-regex', '^/v1/'] },
  { title: 'of its own', selection: ['--include-path-regex', '^/v1/'] },
];

/** How the hub refuses what the document does not allow; 414 is for a path that is too long to be looked at. */
const REFUSALS = [400, 401, 403, 404, 405, 406, 409, 413, 414, 415, 422, 428, 429];

interface Ids {
  readonly known: readonly string[];
  readonly token: string;
  readonly client: string;
}

/** The settings of schemathesis that its command line does not take. */
function configuration({ known, token, client }: Ids): string {
  return [
    '[headers]',
    `Authorization = "Bearer ${token}"`,
    '[dictionaries.known]',
    `values = ${JSON.stringify(known)}`,
    '[parameters]',
    `"path.id" = { dictionary = "known", probability = ${KNOWN_ID_PROBABILITY} }`,
    '[[operations]]',
    'include-path-regex = "^/v2/oauth2/token"',
    `headers = { Authorization = "${client}" }`,
    '[checks.negative_data_rejection]',
    `expected-statuses = ${JSON.stringify(REFUSALS)}`,
  ].join('\n');
}

/** The run that goes on, and its end. */
let running: { readonly child: ChildProcess; readonly ended: Promise<unknown> } | undefined;

/** A test that has timed out leaves its client at work. */
async function endSchemathesis(): Promise<void> {
  const left = running;
  running = undefined;
  left?.child.kill('SIGKILL');
  await left?.ended;
}

async function schemathesis(args: readonly string[]): Promise<{ code: number; text: string }> {
  const command = process.env['OUTPOST_TEST_SCHEMATHESIS'] ?? '';
  assert.notEqual(command, '', 'OUTPOST_TEST_SCHEMATHESIS is not set: run this with `npm test`');
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
    });
  }
  const ended = once(child, 'close') as Promise<[number | null]>;
  running = { child, ended };
  const [code] = await ended;
  return { code: code ?? -1, text };
}

describe(`the OpenAPI document of the hub (FUZZ_SEED=${SEED})`, function () {
  this.timeout(patienceMs(240_000, EXAMPLES));
  let hub: TestHub;
  let directory: string;
  let config: string;
  const failures: unknown[] = [];
  before(async () => {
    const logger: Logger = {
      ...silentLogger,
      error: (...entry: unknown[]) => {
        failures.push(entry);
      },
    };
    hub = await TestHub.start({}, logger);
    directory = await mkdtemp(join(tmpdir(), 'outpost-openapi-'));

    const client = await hub.createClient();
    const { access_token: token } = await hub.token(client);
    const person = hub.personWith(client.id, token);
    const functions = await Promise.all([registerFunction(person), registerFunction(person)]);
    const endpoints = [await registerEndpoint(person), await registerEndpoint(person)];
    const [functionId] = functions;
    const endpointId = endpoints[0]?.endpoint_id ?? '';
    const { body: submitted } = await person.call('POST', `/v3/endpoints/${endpointId}/submit`, {
      tasks: { [functionId]: ['11\n[]'] },
    });
    const taskIds = Object.values(submitted['tasks'] as Record<string, string[]>).flat();
    const known = [
      ...functions,
      ...endpoints.map(({ endpoint_id: id }) => id),
      ...taskIds,
      String(submitted['task_group_id']),
    ];
    config = join(directory, 'schemathesis.toml');
    const basic = basicAuthorization(client.id, client.secret);
    await writeFile(config, configuration({ known, token, client: basic }), { mode: 0o600 });
  });
  afterEach(endSchemathesis);

  after(async () => {
    await rm(directory, { recursive: true, force: true });
    await hub.stop();
  });

  for (const { title, selection } of PARTS) {
    it(`is kept by the hub at every route ${title}`, async () => {
      const { code, text } = await schemathesis([
        ...['--config-file', config],
        ...['run', `${hub.url}/openapi.json`],
        ...selection,
        ...['--checks', CHECKS.join(',')],
        ...['--phases', 'examples,coverage,fuzzing'],
        ...['--seed', SEED, '--max-examples', String(FUZZ_EXAMPLES ?? EXAMPLES)],
        ...['--request-timeout', String(REQUEST_TIMEOUT_S)],
        ...['--generation-database', 'none', '--warnings', 'off', '--no-color'],
        '--continue-on-failure',
      ]);

      assert.equal(code, 0, text);
      assert.deepEqual(failures, [], 'the hub logged failures of its own');
      assert.equal((await hub.call('GET', '/v1/health')).status, 200);
    });
  }

  it('names what every route needs of its caller and how it refuses', async () => {
    const { body } = await hub.call('GET', '/openapi.json');
    const paths = body['paths'] as Record<string, Record<string, Record<string, unknown>>>;
    for (const [path, methods] of Object.entries(paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        const responses = Object.keys(operation['responses'] as object);
        for (const status of ['200', '4XX', '5XX']) {
          assert.ok(responses.includes(status), `${method} ${path} has no ${status}`);
        }
        // Told twice, by the document and by the hub: they must not part.
        const isOpen = JSON.stringify(operation['security']) === '[]';
        const url = path.replace('{id}', crypto.randomUUID());
        const { status } = await hub.call(method.toUpperCase(), url);
        assert.equal(status === 401, !isOpen, `${method} ${path} answers ${status} to strangers`);
      }
    }
  });
});
