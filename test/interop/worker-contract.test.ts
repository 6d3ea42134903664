/**
 * The unmodified globus-compute-sdk against endpoints of three kinds: with sandboxes and its own Python, with another Python, and
 * with a list of allowed serializers. The cases are Python (python/worker_contract_cases.py).
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';
import { pythonsByMinor } from '../support/pythons.ts';
import { Stack, runProgram } from '../support/stack.ts';

/** The unmodified SDK knows no other port. */
const SDK_PORT = 5000;
const CASES_DIR = join(packageRoot(), 'test/interop/python');

const CASES = [
  'test_ends_a_command_at_its_walltime_with_all_that_it_started',
  'test_gives_every_future_the_refusal_of_a_serializer',
  'test_refuses_byte_code_in_another_python_with_the_help_of_the_sdk',
  'test_runs_a_shell_function_in_it',
  'test_runs_an_mpi_function',
  'test_runs_an_mpi_function_on_as_many_ranks_as_asked',
  'test_runs_each_task_in_a_sandbox_that_goes',
  'test_runs_every_form_in_another_python',
  'test_runs_source_in_another_python',
  'test_runs_what_an_endpoint_allows',
  'test_says_what_a_shell_function_needs',
  'test_shows_the_traceback_down_to_the_line',
  'test_tells_the_exit_code_of_a_command',
];

interface CaseOutcome {
  readonly name: string;
  readonly outcome: string;
  readonly text: string;
}

/** An interpreter of another minor version than the SDK's; undefined where there is none. */
function otherPython(sdkPython: string): readonly [minor: string, path: string] | undefined {
  const own = execFileSync(
    sdkPython,
    ['-c', 'import sys; print("%d.%d" % sys.version_info[:2], end="")'],
    { encoding: 'utf8' },
  );
  return [...pythonsByMinor()].findLast(
    ([minor]) => minor !== own && Number(minor.split('.')[1]) >= 9,
  );
}

/** A directory with the least that a launcher can be: it runs the command as often as there are ranks. */
async function launcherDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'outpost-mpi-'));
  const script =
    '#!/bin/sh\n# mpiexec -n RANKS COMMAND…\nranks=$2\nshift 2\nfor rank in $(seq "$ranks"); do "$@"; done\n';
  await writeFile(join(directory, 'mpiexec'), script, { mode: 0o755 });
  return directory;
}

describe('the worker contract, seen by the unmodified globus-compute-sdk', function () {
  this.timeout(300_000);
  let stack: Stack;
  let outcomes = new Map<string, CaseOutcome>();
  const started: string[] = [];
  let launchers = '';

  before(async () => {
    const python = process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '';
    assert.notEqual(
      python,
      '',
      'OUTPOST_TEST_SDK_PYTHON is not set: `npm test -- interop` sets it',
    );
    const [minor, path] = otherPython(python) ?? [];
    launchers = await launcherDirectory();
    const workers = { 'javascript-threads': 0, 'python-interpreters': 1 };
    stack = await Stack.start({
      port: SDK_PORT,
      agent: {
        ...workers,
        python,
        'run-in-sandbox': 'true',
        environment: `PATH=${launchers}:${process.env['PATH'] ?? ''}`,
      },
    });
    if (path !== undefined) {
      await stack.configureAgent('other', { ...workers, python: path });
    }
    await stack.configureAgent('strict', {
      ...workers,
      python: path ?? python,
      'allowed-serializers': 'PureSourceTextInspect,JSONData',
    });
    const environment = {
      ...stack.sdkEnvironment,
      ...(minor !== undefined && {
        OTHER_PYTHON: minor,
        OTHER_PYTHON_ENDPOINT_ID: await stack.startAgent('other'),
      }),
      STRICT_ENDPOINT_ID: await stack.startAgent('strict'),
    };
    started.push('strict', ...(path === undefined ? [] : ['other']));
    const run = await runProgram(python, [join(CASES_DIR, 'worker_contract_cases.py')], {
      env: environment,
      cwd: CASES_DIR,
      limitMs: 180_000,
    });
    const lines = run.stdout.split('\n').filter((line) => line.startsWith('{'));
    const ended = lines.map((line) => JSON.parse(line) as CaseOutcome);
    assert.ok(ended.length > 0, `no case ran: ${run.stdout}${run.stderr}`);
    outcomes = new Map(ended.map((outcome) => [outcome.name, outcome]));
  });

  after(async () => {
    for (const name of started) {
      await stack.stopAgent(name);
    }
    await stack.stop();
    await rm(launchers, { recursive: true });
  });

  for (const name of CASES) {
    it(name.replace(/^test_/, '').replaceAll('_', ' '), async function () {
      const outcome = outcomes.get(name);
      assert.ok(outcome !== undefined, `the case ${name} did not run`);
      if (outcome.outcome === 'skipped') {
        // Counted by the reporter as not run; the case says why.
        this.skip();
      }
      if (outcome.outcome !== 'ok') {
        assert.fail(`${outcome.text}\n${(await stack.agentLog('default')).slice(-3000)}`);
      }
    });
  }

  it('has no case that is not named here', () => {
    assert.deepEqual([...outcomes.keys()].sort(), CASES);
  });
});
