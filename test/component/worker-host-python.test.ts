import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { packBuffers } from '../../src/protocol/serialization.ts';
import { eventually } from '../support/eventually.ts';
import { isAlive } from '../support/processes.ts';
import {
  ENDPOINT_ID,
  PYTHON,
  TestHost,
  interpretersOf,
  pythonWithDill,
} from '../support/worker-host.ts';
import type { Answer } from '../support/worker-host.ts';

function dataOf({ frame, result }: Answer): string {
  assert.equal(frame.type, 'result', JSON.stringify(frame));
  assert.ok(result !== undefined);
  assert.equal(result.error_details, null, result.data);
  return result.data;
}

function valueOf(answer: Answer): unknown {
  const data = dataOf(answer);
  assert.ok(data.startsWith('11\n'), data);
  return JSON.parse(data.slice(3));
}

function errorOf({ frame, result }: Answer): {
  text: string;
  type: string | undefined;
  code: string;
} {
  assert.ok(frame.type === 'result' && frame.failed, JSON.stringify(frame));
  assert.ok(result?.error_details);
  return {
    text: result.data,
    type: result.error_details.exception?.type,
    code: result.error_details.code,
  };
}

function failureOf({ frame }: Answer): {
  code: string;
  message: string;
  lost: boolean;
  stdout?: string;
  stderr?: string;
} {
  assert.ok(frame.type === 'failed', JSON.stringify(frame));
  const { stdout, stderr } = frame.output ?? {};
  return {
    code: frame.code,
    message: frame.message,
    lost: frame.worker_lost,
    ...(stdout !== undefined && { stdout }),
    ...(stderr !== undefined && { stderr }),
  };
}

describe('worker host: Python functions', function () {
  let host: TestHost;

  before(async () => {
    host = await TestHost.start({ python: { interpreters: 1, executable: PYTHON } });
    await host.placesAre(0, 1);
  });

  after(async () => {
    await host.dispose();
  });

  afterEach(async () => {
    await host.placesAre(0, 1);
  });

  it('runs source with JSON data and returns JSON, with details and transitions', async () => {
    const answer = await host.py('def f(x, y=1):\n    return [x + y, (True, None)]\n', [3], {
      kwargs: '11\n{"y": 4}',
    });
    assert.equal(dataOf(answer), '11\n[7, [true, null]]');
    assert.deepEqual(Object.keys(answer.result?.details ?? {}), [
      'os',
      'python_version',
      'endpoint_id',
    ]);
    assert.equal(answer.result?.details?.['endpoint_id'], ENDPOINT_ID);
    assert.deepEqual(
      answer.result.task_statuses?.map(({ state, actor }) => `${state} ${actor}`),
      ['execution-start worker', 'execution-end worker'],
    );
  });

  it('splits the name from the source at the first colon, and counts code points', async () => {
    assert.equal(
      valueOf(
        await host.runRaw(
          'python',
          'sd\nf:# é😀\ndef f(s: str) -> int:\n    return len(s)\n',
          '11\n["\\ud83d\\ude00"]',
        ),
      ),
      1,
    );
  });

  it('awaits a coroutine', async () => {
    assert.equal(
      valueOf(
        await host.py('import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 5\n'),
      ),
      5,
    );
  });

  it('gives each run a fresh namespace', async () => {
    const source = 'count = 0\ndef f():\n    global count\n    count += 1\n    return count\n';
    assert.deepEqual([valueOf(await host.py(source)), valueOf(await host.py(source))], [1, 1]);
  });

  it('returns to the working directory and tells the task its id and limit', async () => {
    const taskId = '11111111-2222-4333-8444-555555555555';
    const source =
      'import os\ndef f():\n    seen = [os.getcwd()] + [os.environ.get(k) for k in ("GC_TASK_UUID", "GC_TASK_TIMEOUT", "GREETING", "OUTPOST_SECRET_THING")]\n    os.chdir("/")\n    return seen\n';
    assert.deepEqual(valueOf(await host.py(source, [], { taskId, timeoutMs: 5000 })), [
      host.workingDir,
      taskId,
      '5.0',
      'hello',
      null,
    ]);
    assert.deepEqual(
      (valueOf(await host.py(source)) as unknown[]).slice(2),
      [null, 'hello', null].slice(0, 3),
    );
  });

  it('leaves __main__ and the import path to the functions', async () => {
    const source =
      'import sys, __main__\ndef f():\n    return [hasattr(__main__, "serve"), [p for p in sys.path if p.endswith("/python")]]\n';
    assert.deepEqual(valueOf(await host.py(source)), [false, []]);
  });

  it('reports an exception with the source lines of the function and without our frames', async () => {
    const { text, type, code } = errorOf(
      await host.py('def g(d):\n    return d["missing"]\ndef f():\n    return g({})\n'),
    );
    assert.equal(code, 'RemoteExecutionError');
    assert.equal(type, 'KeyError');
    assert.match(
      text,
      /^Traceback \(most recent call last\):\n {2}File "<function f #\d+>", line 4, in f\n {4}return g\(\{\}\)\n/,
    );
    assert.match(text, /KeyError: 'missing'\n$/);
    assert.ok(!text.includes('outpost_worker'));
  });

  for (const [what, statement, type] of [
    ['sys.exit()', 'import sys; sys.exit("enough")', 'SystemExit'],
    ['KeyboardInterrupt', 'raise KeyboardInterrupt()', 'KeyboardInterrupt'],
    ['a deep recursion', 'f()', 'RecursionError'],
  ] as const) {
    it(`turns ${what} into an error result`, async () => {
      assert.equal(errorOf(await host.py(`def f():\n    ${statement}\n`)).type, type);
    });
  }

  it('reports a source that does not parse, with the line', async () => {
    const { text, type } = errorOf(await host.py('def f(:\n    pass\n'));
    assert.equal(type, 'SyntaxError');
    assert.match(text, /line 1\n {4}def f\(:/);
  });

  it('says what to do when dill is missing', async () => {
    const code = await host.runRaw('python', '01\ngAQpLg==\n', '11\n[]');
    assert.match(
      errorOf(code).text,
      /this interpreter \(\/usr\/bin\/python3, Python 3\.\d+\.\d+\) has no dill; install it there \(`\/usr\/bin\/python3 -m pip install dill`\), or set `python:`/,
    );
    assert.match(
      errorOf(await host.runRaw('python', 'st\nf:def f(): pass', '00\ngAQpLg==\n')).text,
      /has no dill/,
    );
    assert.match(
      errorOf(await host.py('def f():\n    return {1, 2}\n')).text,
      /JSON cannot hold the result.*has no dill/,
    );
  });

  it('says that structured clones are for JavaScript', async () => {
    assert.match(
      errorOf(await host.runRaw('python', 'st\nf:def f(): pass', 'v8\n/w9vIg==')).text,
      /only JavaScript reads/,
    );
  });

  it('reads combined forms, taking the first that works', async () => {
    const code = `12\n${packBuffers(['01\ngAQpLg==\n', 'st\nf:def f(a, b):\n    return a + b\n'])}`;
    assert.equal(valueOf(await host.runRaw('python', code, '13\n9\n11\n[1, 2]')), 3);
  });

  it('refuses a result over the limit by its size', async () => {
    const { result } = await host.py('def f():\n    return "x" * 10000\n');
    assert.equal(result?.data, 'MaxResultSizeExceeded(10005, 10000)');
    assert.deepEqual(result.error_details, {
      code: 'MaxResultSizeExceeded',
      user_message: 'remote error: Task result of 10005B exceeded current limit of 10000B',
    });
  });

  it('fails with every reason when no asked serializer works', async () => {
    const { text } = errorOf(
      await host.py('def f():\n    return {1}\n', [], {
        resultSerializers: ['globus_compute_sdk.serialize.JSONData', 'x.Nonsense'],
      }),
    );
    assert.match(
      text,
      /SerializationError: All strategies failed\.\n.*set is not JSON serializable\n.*Nonsense/,
    );
  });

  it('captures what the task and its subprocesses write, per task', async () => {
    const source =
      'import os, subprocess, sys\ndef f():\n    print("printed é")\n    sys.stderr.write("error")\n    os.write(1, b"raw\\n")\n    subprocess.run(["echo", "child"])\n';
    const first = await host.py(source);
    assert.deepEqual(first.frame.output, { stdout: 'printed é\nraw\nchild\n', stderr: 'error' });
    const second = await host.py('def f():\n    pass\n');
    assert.equal(second.frame.output, undefined);
  });

  it('keeps the tail of long output, and survives streams that the function replaced or closed', async () => {
    const long = await host.py('def f():\n    for i in range(5000):\n        print(i)\n');
    assert.equal(long.frame.output?.stdout?.length, 1024);
    assert.ok(long.frame.output.stdout.endsWith('4998\n4999\n'));
    assert.equal(long.frame.output.truncated, true);
    const replaced =
      'import io, os, sys\ndef f():\n    sys.stdout = io.StringIO()\n    os.close(2)\n    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)\n';
    dataOf(await host.py(replaced));
    const after = await host.py(
      'import sys\ndef f():\n    print("seen")\n    print("too", file=sys.stderr)\n',
    );
    assert.deepEqual(after.frame.output, { stdout: 'seen\n', stderr: 'too\n' });
  });

  it('never lets a fork of a function answer', async () => {
    const source =
      'import os, time\ndef f():\n    pid = os.fork()\n    if pid:\n        os.waitpid(pid, 0)\n    return "parent" if pid else "child"\n';
    assert.equal(valueOf(await host.py(source)), 'parent');
    assert.equal(valueOf(await host.py('def f():\n    return 2\n')), 2);
  });

  it('names the exit code of an interpreter that ends under a task, with its output', async () => {
    const failure = failureOf(
      await host.py(
        'import os\ndef f():\n    print("before")\n    os.write(2, b"last words")\n    os._exit(3)\n',
      ),
    );
    assert.equal(failure.code, 'WORKER_EXITED');
    assert.match(failure.message, /exit code 3.*last words/s);
    assert.deepEqual(
      [failure.lost, failure.stdout, failure.stderr],
      [true, 'before\n', 'last words'],
    );
  });

  it('names an interpreter that was killed from outside', async () => {
    const running = host.py('import time\ndef f():\n    time.sleep(60)\n');
    const [pid] = await eventually(() => {
      const found = interpretersOf(host);
      assert.equal(found.length, 1);
      return found;
    });
    assert.ok(pid !== undefined);
    process.kill(pid, 'SIGKILL');
    const { code, message } = failureOf(await running);
    assert.equal(code, 'WORKER_EXITED');
    assert.match(message, /SIGKILL from outside/);
  });

  it('names a crash by its signal, with the trace of the interpreter', async () => {
    const { code, message, stderr } = failureOf(
      await host.py('import ctypes\ndef f():\n    ctypes.string_at(0)\n'),
    );
    assert.equal(code, 'WORKER_EXITED');
    assert.match(message, /killed by SIGSEGV/);
    assert.match(stderr ?? '', /Fatal Python error: Segmentation fault/);
  });

  it('ends a task at its limit with everything that it started', async () => {
    const source =
      'import subprocess, time\ndef f():\n    child = subprocess.Popen(["sh", "-c", "trap \'\' TERM; sleep 61 & echo $!; wait; wait"])\n    print(child.pid, flush=True)\n    time.sleep(60)\n';
    const { code, stdout, lost } = failureOf(await host.overtime(source, /^\d+\n\d+\n$/));
    assert.equal(code, 'TASK_TIMED_OUT');
    assert.equal(lost, false);
    const pids = (stdout ?? '').trim().split('\n').map(Number);
    assert.equal(pids.length, 2, stdout);
    assert.deepEqual(pids.map(isAlive), [false, false]);
  });

  it('cancels running and waiting tasks', async () => {
    const running = host.py('import time\ndef f():\n    time.sleep(60)\n', [], {
      nonce: 'running',
    });
    const waiting = host.py('def f():\n    return 1\n', [], { nonce: 'waiting' });
    host.send({ type: 'cancel', task_id: 'x', nonce: 'waiting' });
    assert.match(failureOf(await waiting).message, /before it started/);
    host.send({ type: 'cancel', task_id: 'x', nonce: 'running' });
    assert.equal(failureOf(await running).code, 'TASK_CANCELLED');
  });

  it('ends an interpreter that writes garbage to the descriptor of the protocol', async () => {
    const { code, message } = failureOf(
      await host.py('import os, time\ndef f():\n    os.write(4, b"x" * 64)\n    time.sleep(60)\n'),
    );
    assert.equal(code, 'WORKER_PROTOCOL_FAULT');
    assert.match(message, /no frame to descriptor 4/);
  });

  it('ends an interpreter that closed the descriptor of the protocol', async () => {
    const { code, message } = failureOf(
      await host.py('import os, time\ndef f():\n    os.closerange(3, 10)\n    time.sleep(60)\n'),
    );
    assert.equal(code, 'WORKER_PROTOCOL_FAULT');
    assert.match(message, /closed descriptor 4/);
  });

  it('does not accept an answer with the nonce of another task', async () => {
    const forged =
      'import os, json, struct\ndef f():\n    head = json.dumps({"type": "result", "nonce": "forged", "failed": False}).encode()\n    os.write(4, struct.pack(">II", 4 + len(head), len(head)) + head)\n    return "own"\n';
    assert.equal(valueOf(await host.py(forged)), 'own');
  });

  it('runs waiting tasks in the interpreter that replaces a lost one', async () => {
    const lost = host.py('import os\ndef f():\n    os._exit(1)\n');
    const next = host.py('def f():\n    return "next"\n');
    assert.equal(failureOf(await lost).code, 'WORKER_EXITED');
    assert.equal(valueOf(await next), 'next');
  });

  it('passes a large argument through', async () => {
    assert.equal(
      valueOf(await host.py('def f(s):\n    return len(s)\n', ['é😀'.repeat(300_000)])),
      600_000,
    );
  });
});

describe('worker host: Python functions that need dill', () => {
  let host: TestHost;
  let python: string;

  before(async () => {
    python = pythonWithDill();
    host = await TestHost.start({ python: { interpreters: 1, executable: python } });
    await host.placesAre(0, 1);
  });

  after(async () => {
    await host.dispose();
  });

  /** Serialized buffers and back, by the interpreter's own dill. */
  function inPython(program: string): string {
    return execFileSync(
      python,
      [
        '-c',
        `import codecs, dill\ndef b(i, o): return i + "\\n" + codecs.encode(dill.dumps(o), "base64").decode()\n${program}`,
      ],
      {
        encoding: 'utf8',
      },
    );
  }

  it('runs a dilled function with dilled arguments and answers with dill', async () => {
    const code = inPython('exec("def f(a, b):\\n    return {a, b}")\nprint(b("01", f), end="")');
    const answer = await host.runRaw('python', code, inPython('print(b("00", (1, 2)), end="")'), {
      kwargs: '00\ngAR9lC4=\n',
    });
    const data = dataOf(answer);
    assert.ok(data.startsWith('00\n'));
    assert.match(
      inPython(
        `print(dill.loads(codecs.decode(${JSON.stringify(data.slice(3))}.encode(), "base64")))`,
      ),
      /\{1, 2\}/,
    );
    assert.match(String(answer.result?.details?.['dill_version']), /^\d+\.\d+/);
  });

  it('writes exactly what the origin writes for None', async () => {
    const answer = await host.runRaw('python', 'st\nf:def f(): pass', '00\ngAQpLg==\n', {
      kwargs: '00\ngAR9lC4=\n',
    });
    assert.equal(dataOf(answer), '00\ngAROLg==\n');
  });

  it('answers JSON with dill when JSON cannot keep the value', async () => {
    assert.ok(dataOf(await host.py('def f():\n    return {1: "a"}\n')).startsWith('00\n'));
  });

  it('answers in the asked form, and packs both forms', async () => {
    const answer = await host.py('def f():\n    return [1, 2]\n', [], {
      resultSerializers: ['globus_compute_sdk.serialize.AllDataStrategies'],
    });
    assert.equal(dataOf(answer), '13\n9\n11\n[1, 2]32\n00\ngASVCQAAAAAAAABdlChLAUsCZS4=\n');
  });

  it('runs a ShellFunction of the SDK', async () => {
    const code =
      '01\ngASVowAAAAAAAACMJWdsb2J1c19jb21wdXRlX3Nkay5zZGsuc2hlbGxfZnVuY3Rpb26UjA1TaGVs\nbEZ1bmN0aW9ulJOUKYGUfZQojANjbWSUjAhlY2hvIHt4fZSMBnN0ZG91dJROjAZzdGRlcnKUTowI\nd2FsbHRpbWWUTowNc25pcHBldF9saW5lc5RN6AOMCF9fbmFtZV9flGgBjAtyZXR1cm5fZGljdJSJ\ndWIu\n';
    const answer = await host.runRaw('python', code, '00\ngAQpLg==\n', {
      kwargs: inPython('print(b("00", {"x": "hello"}), end="")'),
    });
    const shown = inPython(
      `r = dill.loads(codecs.decode(${JSON.stringify(dataOf(answer).slice(3))}.encode(), "base64")); print(r.returncode, r.stdout)`,
    );
    assert.equal(shown, '0 hello\n\n');
    assert.match(String(answer.result?.details?.['globus_compute_sdk_version']), /^\d+\.\d+/);
  });
});

describe('worker host: its life', () => {
  const both = {
    javascript: { threads: 1, heapMb: 64 },
    python: { interpreters: 2, executable: PYTHON },
  };

  it('introduces itself with the token, and announces places as they come', async () => {
    const host = await TestHost.start(both);
    try {
      await host.placesAre(1, 2);
      assert.deepEqual(
        { ...host.hello, pid: 0 },
        { type: 'hello', version: 1, token: host.token, pid: 0 },
      );
      assert.equal(host.hello?.pid, host.process.pid);
    } finally {
      await host.dispose();
    }
  });

  for (const how of ['a stop frame', 'SIGTERM'] as const) {
    it(`ends running tasks and exits with 0 at ${how}`, async () => {
      const host = await TestHost.start(both);
      try {
        await host.placesAre(1, 2);
        const pids = interpretersOf(host);
        const running = [
          host.py('import time\ndef f():\n    time.sleep(60)\n'),
          host.py(
            'import signal, time\ndef f():\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    print("deaf", flush=True)\n    time.sleep(60)\n',
          ),
          host.js('() => new Promise(() => {})'),
        ];
        // Both interpreters have their task once neither answers at once.
        await eventually(() => {
          assert.ok(
            pids.some((pid) =>
              /SigIgn:\s*[0-9a-f]*[4-7c-f][0-9a-f]{3}\b/.test(
                readFileSync(`/proc/${pid}/status`, 'latin1'),
              ),
            ),
          );
        });
        if (how === 'SIGTERM') {
          host.process.kill('SIGTERM');
        } else {
          host.send({ type: 'stop' });
        }
        const answers = await Promise.all(running);
        assert.deepEqual(
          answers.map((answer) => failureOf(answer).code),
          ['AGENT_STOPPED', 'AGENT_STOPPED', 'AGENT_STOPPED'],
        );
        assert.deepEqual(await host.exited, { code: 0, signal: null });
        assert.deepEqual(pids.filter(isAlive), []);
      } finally {
        await host.dispose();
      }
    });
  }

  it('kills everything and ends when the agent is gone', async () => {
    const host = await TestHost.start(both);
    try {
      await host.placesAre(1, 2);
      const pids = interpretersOf(host);
      const child = host.py(
        'import subprocess, time\ndef f():\n    print(subprocess.Popen(["sleep", "62"]).pid, file=open("child", "w"), flush=True)\n    time.sleep(60)\n',
      );
      child.catch(() => undefined);
      const path = join(host.workingDir, 'child');
      const grandchild = await eventually(() => {
        const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
        assert.match(text, /\d+\n/);
        return Number(text);
      });
      host.socket?.destroy();
      await host.exited;
      await eventually(() => {
        assert.deepEqual([...pids, grandchild].map(isAlive), [false, false, false]);
      });
    } finally {
      await host.dispose();
    }
  });

  it('takes its interpreters with it when it is killed', async () => {
    const host = await TestHost.start(both);
    try {
      await host.placesAre(1, 2);
      const pids = interpretersOf(host);
      assert.equal(pids.length, 2);
      host.process.kill('SIGKILL');
      await host.exited;
      await eventually(() => {
        assert.deepEqual(pids.filter(isAlive), []);
      });
    } finally {
      await host.dispose();
    }
  });

  it('reports an interpreter that does not exist by the setting to change', async () => {
    const host = await TestHost.start({
      python: { interpreters: 2, executable: '/nowhere/python3' },
    });
    try {
      await host.when(() => host.degraded.length > 0);
      const [{ language, reason } = { language: '', reason: '' }] = host.degraded;
      assert.equal(language, 'python');
      assert.match(reason, /\/nowhere\/python3 does not exist: set `python`/);
      const failure = failureOf(await host.py('def f(): pass'));
      assert.equal(failure.code, 'WORKER_START_FAILED');
      assert.equal(failure.message, reason);
      assert.equal(host.degraded.length, 1);
    } finally {
      await host.dispose();
    }
  });

  it('reports an interpreter that dies at its start with what it said', async () => {
    const host = await TestHost.start({ python: { interpreters: 1, executable: '/bin/ls' } });
    try {
      const waiting = host.py('def f(): pass');
      await host.when(() => host.degraded.length > 0);
      assert.match(
        host.degraded[0]?.reason ?? '',
        /ended before it was ready \(exit code 2\); the end of its stderr:\n.*ls: /s,
      );
      assert.equal(failureOf(await waiting).code, 'WORKER_START_FAILED');
    } finally {
      await host.dispose();
    }
  });

  it('reports what the system refuses before there is a process', async () => {
    // More than one variable can have.
    const host = await TestHost.start({
      python: { interpreters: 1, executable: PYTHON },
      environment: { LARGE: 'x'.repeat(200_000) },
    });
    try {
      await host.when(() => host.degraded.length > 0);
      assert.match(host.degraded[0]?.reason ?? '', /could not be started \(spawn E2BIG\)/);
      assert.equal(failureOf(await host.py('def f(): pass')).code, 'WORKER_START_FAILED');
    } finally {
      await host.dispose();
    }
  });

  it('kills an interpreter that does not become ready in time', async () => {
    const host = await TestHost.start({
      python: { interpreters: 1, executable: '/usr/bin/yes' },
      startTimeoutMs: 100,
    });
    try {
      await host.when(() => host.degraded.length > 0);
      assert.match(host.degraded[0]?.reason ?? '', /(not ready within 0\.1 s|before it was ready)/);
    } finally {
      await host.dispose();
    }
  });

  it('stops when it has no workers at all', async () => {
    const host = await TestHost.start({});
    try {
      host.send({ type: 'stop' });
      assert.deepEqual(await host.exited, { code: 0, signal: null });
    } finally {
      await host.dispose();
    }
  });

  it('reports a working directory that it cannot use', async () => {
    const host = await TestHost.start({ ...both, workingDir: '/dev/null/tasks' });
    try {
      await host.when(() => host.degraded.length === 2);
      assert.match(host.degraded[0]?.reason ?? '', /\/dev\/null\/tasks cannot be used/);
      assert.equal(failureOf(await host.js('() => 1')).code, 'WORKER_START_FAILED');
    } finally {
      await host.dispose();
    }
  });
});
