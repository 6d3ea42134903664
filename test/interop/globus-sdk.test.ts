/**
 * The unmodified globus-compute-sdk from PyPI, in its newest release and in the oldest that we vouch for, against our hub and
 * agent: the proof that nobody here wrote.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { packageRoot } from '../../src/base/package-root.ts';
import { Client } from '../../src/sdk/index.ts';
import { testServices } from '../support/services.ts';
import { Stack, runProgram } from '../support/stack.ts';
import {
  AUTH_ROUTES,
  CASES,
  CLIENT_SURFACE,
  EXECUTOR_SURFACE,
  SERVICE_ROUTES,
} from './sdk-cases.ts';
import type { CaseModule, Proof } from './sdk-cases.ts';
import { startPortForwarder, startWireRecorder } from './wire-recorder.ts';
import type { PortForwarder, RecordedRequest, WireRecorder } from './wire-recorder.ts';

/** The unmodified SDK knows no other port. */
const SDK_PORT = 5000;
const CASES_DIR = join(packageRoot(), 'test/interop/python');

/** An installed SDK. */
interface InstalledSdk {
  readonly title: string;
  readonly variable: string;
}

const NEWEST: InstalledSdk = { title: 'newest release', variable: 'OUTPOST_TEST_SDK_PYTHON' };
const OLDEST: InstalledSdk = { title: '4.15.0', variable: 'OUTPOST_TEST_OLD_SDK_PYTHON' };
const SDKS = [NEWEST, OLDEST];

/** What surface.py prints. */
interface Surface {
  readonly version: string;
  readonly globusSdkVersion: string;
  readonly Client: readonly string[];
  readonly Executor: readonly string[];
}

interface CaseOutcome {
  readonly name: string;
  readonly outcome: string;
  readonly text: string;
}

function pythonOf({ variable }: InstalledSdk): string {
  const python = process.env[variable] ?? '';
  assert.notEqual(
    python,
    '',
    `${variable} is not set: \`npm test -- interop\` makes environments with globus-compute-sdk`,
  );
  return python;
}

describe('the unmodified globus-compute-sdk', function () {
  this.timeout(300_000);
  let stack: Stack;
  let recorder: WireRecorder;
  let otherAmqpPort: PortForwarder;
  let environment: NodeJS.ProcessEnv;
  const surfaces = new Map<InstalledSdk, Surface>();

  before(async () => {
    stack = await Stack.start();
    recorder = await startWireRecorder(SDK_PORT, stack.hubUrl);
    otherAmqpPort = await startPortForwarder(Number(new URL(testServices().amqpUrl).port));
    const owner = new Client({
      hubUrl: stack.hubUrl,
      clientId: stack.client.id,
      clientSecret: stack.client.secret,
    });
    const plus = await owner.registerFunction((a: number, b: number) => a + b, { name: 'plus' });
    const stranger = await stack.createClient('stranger');
    const runner = await stack.createClient('runner', '--endpoint-only');
    environment = {
      ...stack.sdkEnvironment,
      GLOBUS_SDK_SERVICE_URL_AUTH: `http://localhost:${SDK_PORT}/`,
      JAVASCRIPT_FUNCTION_ID: plus.id,
      STRANGER_ID: stranger.id,
      STRANGER_SECRET: stranger.secret,
      RUNNER_ID: runner.id,
      RUNNER_SECRET: runner.secret,
      OTHER_AMQP_PORT: String(otherAmqpPort.port),
      PYTHONDONTWRITEBYTECODE: '1',
    };
    for (const sdk of SDKS) {
      // Tokens are stored there; the versions do not share them.
      await mkdir(homeOf(sdk));
      const run = await python(sdk, 'surface');
      surfaces.set(sdk, JSON.parse(run.stdout) as Surface);
    }
  });

  after(async () => {
    await otherAmqpPort.stop();
    await recorder.stop();
    await stack.stop();
  });

  function homeOf(sdk: InstalledSdk): string {
    return join(stack.home, sdk.variable);
  }

  function environmentOf(sdk: InstalledSdk): NodeJS.ProcessEnv {
    return { ...environment, HOME: homeOf(sdk) };
  }

  function surfaceOf(sdk: InstalledSdk): Surface {
    const surface = surfaces.get(sdk);
    assert.ok(surface !== undefined);
    return surface;
  }

  async function python(
    sdk: InstalledSdk,
    module: string,
  ): Promise<{ stdout: string; stderr: string }> {
    const run = await runProgram(pythonOf(sdk), [join(CASES_DIR, `${module}.py`)], {
      env: environmentOf(sdk),
      cwd: CASES_DIR,
      limitMs: 180_000,
    });
    assert.equal(run.code, 0, `${module}.py with ${sdk.title}: ${run.stdout}${run.stderr}`);
    return run;
  }

  async function runCases(
    sdk: InstalledSdk,
    module: CaseModule,
  ): Promise<ReadonlyMap<string, CaseOutcome>> {
    const { stdout, stderr } = await python(sdk, module);
    const lines = stdout.split('\n').filter((line) => line.startsWith('{'));
    const outcomes = lines.map((line) => JSON.parse(line) as CaseOutcome);
    assert.ok(outcomes.length > 0, `no case ran: ${stdout}${stderr}`);
    return new Map(outcomes.map((outcome) => [outcome.name, outcome]));
  }

  /** Runs a module with both versions at the same time, and reports its cases one by one. */
  function suite(title: string, module: CaseModule): void {
    describe(title, () => {
      const outcomes = new Map<InstalledSdk, ReadonlyMap<string, CaseOutcome>>();

      before(async () => {
        await Promise.all(
          SDKS.map(async (sdk) => {
            outcomes.set(sdk, await runCases(sdk, module));
          }),
        );
      });

      for (const sdk of SDKS) {
        describe(sdk.title, () => {
          for (const name of CASES[module]) {
            it(name.replace(/^test_/, '').replaceAll('_', ' '), async () => {
              const outcome = outcomes.get(sdk)?.get(name);
              assert.ok(outcome !== undefined, `the case ${name} did not run`);
              if (outcome.outcome !== 'ok') {
                assert.fail(
                  `${outcome.text}\nagent log:\n${(await stack.agentLog('default')).slice(-4000)}`,
                );
              }
            });
          }

          it('has no case that is not named here', () => {
            assert.deepEqual(
              [...(outcomes.get(sdk)?.keys() ?? [])].sort(),
              [...CASES[module]].sort(),
            );
          });
        });
      }
    });
  }

  suite('messages', 'golden_cases');
  suite('Client', 'client_cases');
  suite('endpoints', 'endpoint_cases');
  suite('refusals', 'refusal_cases');
  suite('serialization', 'serialization_cases');
  suite('Executor', 'executor_cases');

  it('gets every result although the hub is restarted in the middle', async () => {
    const programs = SDKS.map((sdk) => {
      const child = spawn(pythonOf(sdk), [join(CASES_DIR, 'hub_restart.py')], {
        env: environmentOf(sdk),
        cwd: CASES_DIR,
        stdio: ['pipe', 'pipe', 'pipe'],
      });
      let errors = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const ended = once(child, 'close') as Promise<[number | null]>;
      return { child, lines, ended, errors: () => errors };
    });
    for (const { lines, errors } of programs) {
      assert.equal((await lines.next()).value, 'restart', errors());
    }
    await stack.stopHub('SIGKILL');
    await stack.startHub();
    for (const { child, lines, ended, errors } of programs) {
      child.stdin.end('\n');
      assert.equal((await lines.next()).value, 'done', errors());
      assert.equal((await ended)[0], 0, errors());
    }
  });

  describe('in the end', () => {
    for (const sdk of SDKS) {
      it(`has a case for every public name of Client and Executor (${sdk.title})`, () => {
        const surface = surfaceOf(sdk);
        assert.deepEqual(Object.keys(CLIENT_SURFACE).sort(), [...surface.Client]);
        assert.deepEqual(Object.keys(EXECUTOR_SURFACE).sort(), [...surface.Executor]);
      });

      it(`made every request that it can make, and no other (${sdk.title})`, () => {
        assert.deepEqual(routes(requestsOf(sdk)), SERVICE_ROUTES);
      });

      it(`says who it is, and that it speaks JSON (${sdk.title})`, () => {
        const { version, globusSdkVersion } = surfaceOf(sdk);
        for (const { headers, method, body } of requestsOf(sdk)) {
          assert.equal(
            headers['user-agent'],
            `globus-sdk-py-${globusSdkVersion}/globus-compute-sdk-${version}`,
          );
          assert.equal(
            headers['x-globus-client-info'],
            `product=python-sdk,version=${globusSdkVersion}`,
          );
          assert.equal(headers.accept, 'application/json');
          assert.match(headers.authorization ?? '', /^Bearer /);
          assert.ok(body === undefined || method === 'POST' || method === 'PUT');
        }
      });

      it(`submits with the fields that the hub knows (${sdk.title})`, () => {
        const { version } = surfaceOf(sdk);
        const known = [
          ...['create_queue', 'resource_specification', 'result_serializers', 'task_group_id'],
          ...['tasks', 'user_endpoint_config', 'user_runtime'],
        ];
        const bodies = bodiesOf(sdk, 'POST /v3/endpoints/{id}/submit');
        assert.deepEqual([...new Set(bodies.flatMap((body) => Object.keys(body)))].sort(), known);
        for (const body of bodies) {
          assert.ok('tasks' in body && 'user_runtime' in body && 'create_queue' in body);
          const runtime = body['user_runtime'] as Record<string, unknown>;
          assert.equal(runtime['globus_compute_sdk_version'], version);
          assert.ok(Object.values(runtime).every((value) => value !== null));
        }
      });
    }

    it('was at the authorization server for tokens, identities and an end', () => {
      const auth = recorder.requests.filter(({ headers }) => versionIn(headers) === undefined);
      assert.deepEqual(routes(auth), AUTH_ROUTES);
    });

    it('sent source code as it is in the newest release, and packed in the oldest', () => {
      const newest = bodiesOf(NEWEST, 'POST /v3/functions');
      assert.ok(newest.every((body) => typeof body['serialized'] === 'boolean'));
      assert.ok(newest.some((body) => body['serialized'] === false));
      const oldest = bodiesOf(OLDEST, 'POST /v3/functions');
      assert.ok(oldest.every((body) => !('serialized' in body)));
      for (const body of oldest) {
        assert.equal(
          typeof (body['meta'] as Record<string, unknown>)['serde_identifier'],
          'string',
        );
      }
    });

    it('went by way of the other AMQP port when told so', () => {
      assert.ok(otherAmqpPort.connections() >= SDKS.length);
    });

    it('names only cases that exist as proofs', () => {
      const cases = new Set<Proof>(Object.values(CASES).flat());
      for (const proof of Object.values({ ...CLIENT_SURFACE, ...EXECUTOR_SURFACE })) {
        assert.ok(typeof proof === 'object' || cases.has(proof));
      }
    });
  });

  function versionIn(headers: RecordedRequest['headers']): string | undefined {
    return /globus-compute-sdk-(\S+)$/.exec(headers['user-agent'] ?? '')?.[1];
  }

  function requestsOf(sdk: InstalledSdk): RecordedRequest[] {
    const { version } = surfaceOf(sdk);
    return recorder.requests.filter(({ headers }) => versionIn(headers) === version);
  }

  function routes(requests: readonly RecordedRequest[]): string[] {
    return [...new Set(requests.map(({ method, route }) => `${method} ${route}`))].sort();
  }

  function bodiesOf(sdk: InstalledSdk, wanted: string): Readonly<Record<string, unknown>>[] {
    return requestsOf(sdk)
      .filter(({ method, route }) => `${method} ${route}` === wanted)
      .flatMap(({ body }) => (body === undefined ? [] : [body]));
  }
});
