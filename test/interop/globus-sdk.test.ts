/**
 * The unmodified globus-compute-sdk from PyPI against our hub and agent: the proof that nobody here wrote. The cases are Python
 * (test/interop/python); each stands here by name, so that one that vanishes is missed.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { packageRoot } from '../../src/base/package-root.ts';
import { Client } from '../../src/sdk/index.ts';
import { Stack, runProgram } from '../support/stack.ts';

/** The unmodified SDK knows no other port. */
const SDK_PORT = 5000;
const CASES_DIR = join(packageRoot(), 'test/interop/python');

const CLIENT_CASES = [
  'test_registers_runs_and_gets_a_result',
  'test_gets_the_function_back',
  'test_deletes_a_function',
  'test_runs_source_code',
  'test_raises_what_the_function_raised',
  'test_says_pending_while_a_task_runs',
  'test_runs_a_batch_in_order',
  'test_reads_the_same_result_twice',
  'test_gives_the_details_of_the_worker',
  'test_sees_the_endpoint',
  'test_refuses_an_unknown_function',
  'test_refuses_an_unknown_endpoint',
  'test_refuses_an_unknown_task',
];
const STRANGER_CASES = [
  'test_refuses_a_wrong_secret',
  'test_refuses_somebody_elses_endpoint',
  'test_refuses_somebody_elses_function',
  'test_does_not_show_somebody_elses_task',
];
const GOLDEN_CASES = ['test_reads_every_message', 'test_writes_every_message_alike'];
const EXECUTOR_CASES = [
  'test_runs_a_thousand_tasks',
  'test_raises_what_the_function_raised',
  'test_passes_keyword_arguments',
  'test_runs_a_lambda',
  'test_passes_an_argument_of_five_megabytes',
  'test_sends_source_and_json',
  'test_sends_all_code_strategies',
  'test_is_not_warned_of_environment_differences',
  'test_is_not_disturbed_by_what_a_function_prints',
  'test_calls_a_javascript_function',
  'test_is_told_how_to_call_a_javascript_function',
  'test_reloads_tasks_of_a_group',
];

function sdkPython(): string {
  const python = process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '';
  assert.notEqual(
    python,
    '',
    'OUTPOST_TEST_SDK_PYTHON is not set: `npm test -- interop` makes an environment with globus-compute-sdk',
  );
  return python;
}

interface CaseOutcome {
  readonly name: string;
  readonly outcome: string;
  readonly text: string;
}

describe('the unmodified globus-compute-sdk', function () {
  this.timeout(300_000);
  let stack: Stack;
  let javascriptFunctionId: string;

  before(async () => {
    stack = await Stack.start({ port: SDK_PORT });
    const client = new Client({
      hubUrl: stack.hubUrl,
      clientId: stack.client.id,
      clientSecret: stack.client.secret,
    });
    const plus = await client.registerFunction((a: number, b: number) => a + b, { name: 'plus' });
    javascriptFunctionId = plus.id;
  });

  after(async () => {
    await stack.stop();
  });

  async function runCases(
    module: string,
    environment: NodeJS.ProcessEnv,
  ): Promise<Map<string, CaseOutcome>> {
    const run = await runProgram(sdkPython(), [join(CASES_DIR, `${module}.py`)], {
      env: {
        ...stack.sdkEnvironment,
        JAVASCRIPT_FUNCTION_ID: javascriptFunctionId,
        ...environment,
      },
      cwd: CASES_DIR,
      limitMs: 180_000,
    });
    const lines = run.stdout.split('\n').filter((line) => line.startsWith('{'));
    const outcomes = lines.map((line) => JSON.parse(line) as CaseOutcome);
    assert.ok(outcomes.length > 0, `no case ran: ${run.stdout}${run.stderr}`);
    return new Map(outcomes.map((outcome) => [outcome.name, outcome]));
  }

  function suite(
    title: string,
    module: string,
    names: readonly string[],
    environment: () => Promise<NodeJS.ProcessEnv>,
  ): void {
    describe(title, () => {
      let outcomes = new Map<string, CaseOutcome>();

      before(async () => {
        outcomes = await runCases(module, await environment());
      });

      for (const name of names) {
        it(name.replace(/^test_/, '').replaceAll('_', ' '), async () => {
          const outcome = outcomes.get(name);
          assert.ok(
            outcome !== undefined,
            `the case ${name} did not run; ran: ${[...outcomes.keys()].join(', ')}`,
          );
          if (outcome.outcome !== 'ok') {
            assert.fail(
              `${outcome.text}\nagent log:\n${(await stack.agentLog('default')).slice(-4000)}`,
            );
          }
        });
      }

      it('has no case that is not named here', () => {
        assert.deepEqual([...outcomes.keys()].sort(), [...names].sort());
      });
    });
  }

  suite('messages', 'golden_cases', GOLDEN_CASES, async () => await Promise.resolve({}));
  suite('Client', 'client_cases', CLIENT_CASES, async () => await Promise.resolve({}));
  suite('Client of a stranger', 'stranger_cases', STRANGER_CASES, async () => {
    const stranger = await stack.createClient('stranger');
    const owner = new Client({
      hubUrl: stack.hubUrl,
      clientId: stack.client.id,
      clientSecret: stack.client.secret,
    });
    const taskId = await owner.run(javascriptFunctionId, stack.endpointId, [1, 2]);
    return {
      GLOBUS_COMPUTE_CLIENT_ID: stranger.id,
      GLOBUS_COMPUTE_CLIENT_SECRET: stranger.secret,
      OTHER_FUNCTION_ID: javascriptFunctionId,
      OTHER_TASK_ID: taskId,
    };
  });
  suite('Executor', 'executor_cases', EXECUTOR_CASES, async () => await Promise.resolve({}));

  it('gets every result although the hub is restarted in the middle', async () => {
    const child = spawn(sdkPython(), [join(CASES_DIR, 'hub_restart.py')], {
      env: stack.sdkEnvironment,
      cwd: CASES_DIR,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
    const closed = once(child, 'close') as Promise<[number | null]>;
    const lines: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      lines.push(line);
      if (line === 'restart') {
        await stack.stopHub('SIGKILL');
        await stack.startHub();
        child.stdin.end('\n');
      }
    }
    const [code] = await closed;
    assert.equal(code, 0, errors);
    assert.deepEqual(lines, ['restart', 'done']);
  });
});
