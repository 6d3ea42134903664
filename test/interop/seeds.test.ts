/**
 * The two documents that the project comes from, run: the examples of the funcX SDK with the funcX of its time, those of the Globus
 * Compute SDK with the last version that has login managers, and all of them with the newest SDK and our own package. The endpoint is the
 * documents' own, by its id.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';
import { runProgram, Stack } from '../support/stack.ts';
import { startWireRecorder } from './wire-recorder.ts';
import type { WireRecorder } from './wire-recorder.ts';

/** Where these SDKs look for a service on this machine. */
const SDK_PORT = 5000;
const CASES_DIR = join(packageRoot(), 'test/interop/python');
/** The endpoint of the documents. */
const TUTORIAL_ENDPOINT = '4b116d3c-1703-4f8f-9f6f-39921e5864df';

/** An SDK, and the document as it can be run with it. */
interface Document {
  readonly title: string;
  readonly module: string;
  /** Variable with the interpreter of an environment that has the SDK. */
  readonly python: string;
  readonly environment: (stack: Stack) => NodeJS.ProcessEnv;
}

/** What SDKs read before 4.6. */
function oldNames({ client }: Stack): NodeJS.ProcessEnv {
  const service = `http://localhost:${SDK_PORT}/`;
  return {
    FUNCX_SDK_ENVIRONMENT: 'local',
    FUNCX_SDK_CLIENT_ID: client.id,
    FUNCX_SDK_CLIENT_SECRET: client.secret,
    GLOBUS_SDK_SERVICE_URL_AUTH: service,
    GLOBUS_SDK_SERVICE_URL_SEARCH: service,
  };
}

const DOCUMENTS: readonly Document[] = [
  {
    title: 'funcX 1.0.4',
    module: 'seeds_funcx',
    python: 'OUTPOST_TEST_FUNCX_PYTHON',
    environment: oldNames,
  },
  {
    title: 'globus-compute-sdk 2.34.0',
    module: 'seeds_compute',
    python: 'OUTPOST_TEST_CLASSIC_SDK_PYTHON',
    environment: oldNames,
  },
  {
    title: 'the newest globus-compute-sdk with outpost_sdk',
    module: 'seeds_outpost',
    python: 'OUTPOST_TEST_SDK_PYTHON',
    environment: ({ client, hubUrl }) => ({
      OUTPOST_HUB_URL: hubUrl,
      OUTPOST_CLIENT_ID: client.id,
      OUTPOST_CLIENT_SECRET: client.secret,
      // The clients of other Globus services that a login manager makes.
      GLOBUS_SDK_SERVICE_URL_AUTH: `${hubUrl}/`,
      GLOBUS_SDK_SERVICE_URL_SEARCH: `${hubUrl}/`,
      PYTHONPATH: join(packageRoot(), 'python'),
    }),
  },
];

/** Every request that the documents make of old SDKs. */
const OLD_ROUTES = [
  'DELETE /v2/endpoints/{id}/whitelist/{id}',
  'GET /v1/index/{id}/entry',
  'GET /v1/index/{id}/search',
  'GET /v2/containers/{id}/docker',
  'GET /v2/containers/{id}/venv',
  'GET /v2/endpoints/{id}/status',
  'GET /v2/endpoints/{id}/whitelist',
  'GET /v2/get_amqp_result_connection_url',
  'GET /v2/oauth2/userinfo',
  'GET /v2/tasks/{id}',
  'GET /v2/version',
  'POST /v2/batch_status',
  'POST /v2/containers',
  'POST /v2/containers/build',
  'POST /v2/endpoints',
  'POST /v2/endpoints/{id}/whitelist',
  'POST /v2/functions',
  'POST /v2/oauth2/token',
  'POST /v2/submit',
  'POST /v3/endpoints/{id}/submit',
];

interface CaseOutcome {
  readonly name: string;
  readonly outcome: string;
  readonly text: string;
}

/** The cases of a module, by the names that they have there. */
async function casesOf(module: string): Promise<string[]> {
  const source = await readFile(join(CASES_DIR, `${module}.py`), 'utf8');
  return [...source.matchAll(/^ {4}def (test_\w+)\(/gm)].flatMap(([, name]) => name ?? []);
}

const CASES = new Map(
  await Promise.all(DOCUMENTS.map(async ({ module }) => [module, await casesOf(module)] as const)),
);

describe('the documents', function () {
  this.timeout(300_000);
  let stack: Stack;
  let recorder: WireRecorder;
  let given: NodeJS.ProcessEnv;
  const outcomes = new Map<string, CaseOutcome>();

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    recorder = await startWireRecorder(SDK_PORT, stack.hubUrl);
    // Nobody else writes it.
    // eslint-disable-next-line require-atomic-updates
    stack.endpointId = await startTutorialEndpoint(stack);
    assert.equal(stack.endpointId, TUTORIAL_ENDPOINT);
    await stack.configureAgent('second');
    given = {
      SECOND_ENDPOINT_ID: await stack.startAgent('second'),
      GROUP_ID: await createGroup(stack),
    };
    await Promise.all(DOCUMENTS.map(run));
  });

  after(async () => {
    await recorder.stop();
    await stack.stopAgent('second');
    await stack.stop();
  });

  for (const { title, module } of DOCUMENTS) {
    describe(`with ${title}`, () => {
      for (const name of CASES.get(module) ?? []) {
        it(name.replace(/^test_/, '').replaceAll('_', ' '), async () => {
          const outcome = outcomes.get(name);
          assert.ok(outcome !== undefined, `the case ${name} did not run`);
          if (outcome.outcome !== 'ok') {
            const log = await stack.agentLog('default');
            assert.fail(`${outcome.text}\nagent log:\n${log.slice(-4000)}`);
          }
        });
      }
    });
  }

  describe('in the end', () => {
    it('old SDKs called these routes and no other', () => {
      const called = recorder.requests.map(({ method, route }) => `${method} ${route}`);
      assert.deepEqual([...new Set(called)].sort(), OLD_ROUTES);
    });
  });

  async function run(document: Document): Promise<void> {
    const python = process.env[document.python] ?? '';
    assert.notEqual(
      python,
      '',
      `${document.python} is not set: \`npm test -- interop\` makes environments with every SDK`,
    );
    const home = join(stack.home, document.module);
    // Tokens are stored there.
    await mkdir(home, { recursive: true });
    const { code, stdout, stderr } = await runProgram(
      python,
      [join(CASES_DIR, `${document.module}.py`)],
      {
        env: {
          ...{ PATH: process.env['PATH'], LANG: 'C.UTF-8', HOME: home },
          PYTHONDONTWRITEBYTECODE: '1',
          ...document.environment(stack),
          ...given,
        },
        cwd: CASES_DIR,
        limitMs: 180_000,
      },
    );
    assert.equal(code, 0, `${document.module}.py: ${stdout}${stderr}`);
    const lines = stdout.split('\n').filter((line) => line.startsWith('{"name"'));
    assert.ok(lines.length > 0, `no case ran: ${stdout}${stderr}`);
    for (const outcome of lines.map((line) => JSON.parse(line) as CaseOutcome)) {
      outcomes.set(outcome.name, outcome);
    }
  }
});

async function post(stack: Stack, path: string, body: unknown): Promise<Record<string, unknown>> {
  const { id, secret } = stack.client;
  const token = await fetch(`${stack.hubUrl}/v2/oauth2/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  });
  const { access_token: accessToken } = (await token.json()) as { access_token: string };
  const answer = await fetch(`${stack.hubUrl}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${accessToken}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  assert.ok(answer.ok, text);
  return JSON.parse(text) as Record<string, unknown>;
}

/** As the SDKs of that time registered endpoints: under an id that the caller chose. */
async function startTutorialEndpoint(stack: Stack): Promise<string> {
  const registration = { endpoint_name: 'default', endpoint_uuid: TUTORIAL_ENDPOINT };
  await post(stack, '/v2/endpoints', registration);
  await stack.configureAgent('default');
  await writeFile(
    join(stack.home, '.outpost/default/endpoint.json'),
    JSON.stringify({ endpoint_id: TUTORIAL_ENDPOINT }),
    { mode: 0o600 },
  );
  // Who registered it told nothing about himself, and is gone.
  return await stack.startAgent('default', '--takeover');
}

async function createGroup(stack: Stack): Promise<string> {
  const group = await post(stack, '/v2/groups', { name: 'the lab' });
  assert.ok(typeof group['id'] === 'string');
  return group['id'];
}
