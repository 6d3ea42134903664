import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';

import golden from '../golden/serialization.json' with { type: 'json' };
import { eventually } from '../support/eventually.ts';
import { PYTHON, TestHost, pythonWithDill } from '../support/worker-host.ts';
import type { Answer } from '../support/worker-host.ts';

/** Processes with a text on their command line; zombies have none. */
function running(text: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return (
        /^\d+$/.test(pid) &&
        Number(pid) !== process.pid &&
        readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(text)
      );
    } catch {
      return false;
    }
  });
}

/** A command of many processes: in the background, in a session of its own, without an environment, deaf to SIGTERM. */
function stubbornCommand(seconds: string): string {
  return [
    `sleep ${seconds}1 &`,
    `setsid sleep ${seconds}2 &`,
    `env -i /bin/sleep ${seconds}3 &`,
    `(trap "" TERM; sleep ${seconds}4; sleep ${seconds}5) &`,
    `(setsid sh -c "trap : TERM; sleep ${seconds}6 & wait; wait" &);`,
    `echo started; wait`,
  ].join(' ');
}

function dataOf({ result }: Answer): string {
  assert.equal(result?.error_details, null, result?.data);
  return result.data;
}

describe('shell functions of the Globus Compute SDK', function () {
  let host: TestHost;
  let python: string;
  const vector = (name: string): string => {
    const found = golden.shell.find((each) => each.name === name);
    assert.ok(found);
    return found.buffer;
  };

  before(async () => {
    python = pythonWithDill();
    host = await TestHost.start({
      python: { interpreters: 1, executable: python },
      killGraceMs: 300,
    });
    await host.placesAre(0, 1);
  });

  after(async () => {
    await host.dispose();
  });

  function shellResult(data: string): { returncode: number; stdout: string; cmd: string } {
    const program =
      'import base64, dill, json, sys\nr = dill.loads(base64.b64decode(sys.argv[1]))\nprint(json.dumps([type(r).__name__, vars(r)]))';
    const text = execFileSync(python, ['-c', program, data.slice(3)], { encoding: 'utf8' });
    const [type, fields] = JSON.parse(text) as [
      string,
      { returncode: number; stdout: string; cmd: string },
    ];
    assert.equal(type, 'ShellResult');
    return fields;
  }

  it('run and return a ShellResult', async () => {
    const answer = await host.runRaw('python', vector('ShellFunction'), '11\n[]', {
      kwargs: '11\n{"x": "hello"}',
    });
    const { returncode, stdout } = shellResult(dataOf(answer));
    assert.deepEqual([returncode, stdout], [0, 'hello\n']);
    assert.match(String(answer.result?.details?.['globus_compute_sdk_version']), /^\d+\.\d+/);
  });

  it('of MPI run too; without a resource specification there is no launcher before the command', async () => {
    const answer = await host.runRaw('python', vector('MPIFunction'), '11\n[]', {
      kwargs: '11\n{"x": "hello"}',
    });
    assert.match(
      dataOf(answer),
      /^11\n\{"cmd": "\$PARSL_MPI_PREFIX echo hello", "stdout": "hello\\n"/,
    );
  });

  it('end at their walltime with everything that the command started', async () => {
    const seconds = `3${randomInt(10_000, 99_999)}`;
    const code = vector('ShellFunction with a walltime');
    // How far the command gets in its half second is up to the machine.
    await eventually(async () => {
      const answer = await host.runRaw('python', code, '11\n[]', {
        kwargs: `11\n${JSON.stringify({ command: stubbornCommand(seconds) })}`,
        resultSerializers: ['globus_compute_sdk.serialize.JSONData'],
      });
      const value = JSON.parse(dataOf(answer).slice(3)) as Record<string, unknown>;
      assert.deepEqual(
        [value['returncode'], value['exception_name'], value['stdout']],
        [124, 'subprocess.TimeoutExpired', 'started\n'],
      );
    });
    assert.deepEqual(running(`sleep\0${seconds}`), []);
    assert.deepEqual(running(seconds), []);
  });

  it('end with everything when the time limit of the task is over, however they were started', async () => {
    const seconds = `4${randomInt(10_000, 99_999)}`;
    const source = `import subprocess\ndef f(command):\n    subprocess.run(command, shell=True)\n`;
    await host.overtime(source, /^started\n$/, { args: [stubbornCommand(seconds)] });
    await eventually(() => {
      assert.deepEqual(running(seconds), []);
    });
  });

  it('run in the sandbox without the warning of the SDK', async () => {
    const sandboxed = await TestHost.start({
      python: { interpreters: 1, executable: python },
      runInSandbox: true,
    });
    try {
      await sandboxed.placesAre(0, 1);
      const answer = await sandboxed.runRaw(
        'python',
        vector('ShellFunction with a walltime'),
        '11\n[]',
        {
          kwargs: '11\n{"command": "pwd; echo $GC_TASK_UUID; ls | wc -l"}',
          taskId: '11111111-2222-4333-8444-555555555555',
          resultSerializers: ['globus_compute_sdk.serialize.JSONData'],
        },
      );
      const value = JSON.parse(dataOf(answer).slice(3)) as { stdout: string; stderr: string };
      const id = '11111111-2222-4333-8444-555555555555';
      assert.deepEqual(value.stdout.split('\n'), [`${sandboxed.workingDir}/${id}`, id, '2', '']);
      assert.equal(value.stderr, '');
      assert.deepEqual(
        readdirSync(sandboxed.workingDir).filter((name) => name !== '.sandboxes'),
        [],
      );
    } finally {
      await sandboxed.dispose();
    }
  });

  it('name what to install where the interpreter has no SDK', async () => {
    const bare = await TestHost.start({ python: { interpreters: 1, executable: PYTHON } });
    try {
      await bare.placesAre(0, 1);
      const { result } = await bare.runRaw('python', vector('ShellFunction'), '11\n[]');
      assert.match(
        result?.data ?? '',
        /needs the module globus_compute_sdk, but this interpreter \(.*\) does not have it; install what provides it there \(`.* -m pip install globus-compute-sdk`\)/,
      );
    } finally {
      await bare.dispose();
    }
  });
});
