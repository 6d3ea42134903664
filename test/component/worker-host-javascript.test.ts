import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import v8 from 'node:v8';

import { unpackBuffers } from '../../src/protocol/serialization.ts';
import { isAlive } from '../support/processes.ts';
import { TestHost } from '../support/worker-host.ts';
import type { Answer } from '../support/worker-host.ts';

function valueOf({ frame, result }: Answer): unknown {
  assert.equal(frame.type, 'result', JSON.stringify(frame));
  assert.ok(result !== undefined);
  assert.equal(result.error_details, null, result.data);
  assert.equal('failed' in frame && frame.failed, false);
  assert.ok(result.data.startsWith('11\n'), result.data);
  return JSON.parse(result.data.slice(3));
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

function failureOf({ frame }: Answer): { code: string; message: string; lost: boolean } {
  assert.ok(frame.type === 'failed', JSON.stringify(frame));
  return { code: frame.code, message: frame.message, lost: frame.worker_lost };
}

describe('worker host: JavaScript functions', () => {
  let host: TestHost;

  before(async () => {
    host = await TestHost.start({ javascript: { threads: 2, heapMb: 256 } });
    await host.placesAre(2, 0);
  });

  after(async () => {
    await host.dispose();
  });

  it('returns the value with two transitions and no details', async () => {
    const { result } = await host.js('(a, b) => a + b', [1, 2]);
    assert.equal(result?.data, '11\n3');
    assert.equal(result.details, null);
    const [started, ended] = result.task_statuses ?? [];
    assert.equal(started?.state, 'execution-start');
    assert.equal(ended?.state, 'execution-end');
    assert.ok(ended.timestamp >= started.timestamp);
    assert.ok(Math.abs(Number(started.timestamp / 1_000_000n) - Date.now()) < 10_000);
  });

  for (const [form, source] of Object.entries({
    'a function expression': 'function (a) { return a * 2 }',
    'a function declaration with a semicolon': 'function twice(a) { return a * 2; };',
    'an arrow function with a comment behind it': '(a) => a * 2 // doubled',
    'an async arrow function': 'async a => a * 2',
    'a method as toString prints it': 'twice(a) { return a * 2 }',
    'an async method': 'async twice(a) { return a * 2 }',
    'statements that define the name': 'const K = 2;\nfunction f(a) { return a * K }',
    'a module with a default export':
      'import { sep } from "node:path";\nexport default (a) => a * 2 * sep.length',
    'a module with a named export': 'export function f(a) { return a * 2 }',
  })) {
    it(`runs ${form}`, async () => {
      assert.equal(valueOf(await host.js(source, [21])), 42);
    });
  }

  it('gives functions require, import(), the working directory and the configured environment', async () => {
    writeFileSync(join(host.workingDir, 'data.json'), '{"x": 5}');
    const value = valueOf(
      await host.js(
        `async () => ({
          x: require('./data.json').x,
          sep: (await import('node:path')).sep,
          cwd: process.cwd(),
          dir: process.env.GC_TASK_WORKING_DIR,
          greeting: process.env.GREETING,
          secret: process.env.OUTPOST_SECRET_THING ?? null,
        })`,
      ),
    );
    const { workingDir } = host;
    assert.deepEqual(value, {
      x: 5,
      sep: '/',
      cwd: workingDir,
      dir: workingDir,
      greeting: 'hello',
      secret: null,
    });
  });

  it('tells the task its id and its limit', async () => {
    const taskId = '11111111-2222-4333-8444-555555555555';
    const source = '() => [process.env.GC_TASK_UUID, process.env.GC_TASK_TIMEOUT ?? null]';
    assert.deepEqual(valueOf(await host.js(source, [], { taskId, timeoutMs: 5000 })), [
      taskId,
      '5',
    ]);
    const limits = await Promise.all([
      host.js(source),
      host.js(source),
      host.js(source),
      host.js(source),
    ]);
    assert.deepEqual(
      limits.map((answer) => (valueOf(answer) as unknown[])[1]),
      [null, null, null, null],
    );
  });

  it('passes keyword arguments as one last object', async () => {
    assert.deepEqual(valueOf(await host.js('(...args) => args', [1], { kwargs: '11\n{"y": 2}' })), [
      1,
      { y: 2 },
    ]);
  });

  it('returns null for undefined', async () => {
    assert.equal(valueOf(await host.js('() => {}')), null);
  });

  it('keeps no state of a function between two runs', async () => {
    const source = 'let count = 0;\nfunction f() { count += 1; return count }';
    for (let run = 0; run < 5; run += 1) {
      assert.equal(valueOf(await host.js(source)), 1);
    }
  });

  it('reports what a function throws without our frames, with its causes', async () => {
    const { text, type, code } = errorOf(
      await host.js(
        'function boom() {\n  throw new RangeError("too far", { cause: new Error("deep") })\n}',
        [],
        {
          name: 'boom',
        },
      ),
    );
    assert.equal(code, 'RemoteExecutionError');
    assert.equal(type, 'RangeError');
    assert.equal(
      text,
      'RangeError: too far\n    at boom (boom:2:9)\nCaused by: Error: deep\n    at boom (boom:2:44)',
    );
  });

  it('shows the awaiting frames of an asynchronous function', async () => {
    const source = `async function f() {\n  async function inner() { await null; throw new Error('late') }\n  await inner()\n}`;
    const { text } = errorOf(await host.js(source));
    assert.match(text, /^Error: late\n {4}at inner \(f:2:\d+\)\n {4}at async f \(f:3:3\)$/);
  });

  it('renders thrown values that are no errors', async () => {
    const { text, type } = errorOf(await host.js('() => { throw { reason: 7 } }'));
    assert.match(text, /^Uncaught \{ reason: 7 \}/);
    assert.equal(type, 'object');
  });

  it('survives an error whose properties throw', async () => {
    const { text } = errorOf(
      await host.js(
        '() => { throw Object.defineProperty(new Error("x"), "stack", { get() { throw new Error("y") } }) }',
      ),
    );
    assert.match(text, /cannot be shown/);
  });

  it('points to the place in a source that does not parse', async () => {
    const { text, type } = errorOf(
      await host.js('function add(a, b) {\n  return a + ;\n}', [], { name: 'add' }),
    );
    assert.equal(type, 'SyntaxError');
    assert.match(text, /^add:2\n {2}return a \+ ;\n {13}\^\n\nSyntaxError: Unexpected token ';'$/);
    assert.match(errorOf(await host.js('add(a) { return a + ; }')).text, /Unexpected token ';'/);
  });

  it('names what is wrong with a source that is no function', async () => {
    assert.match(
      errorOf(await host.js('42')).text,
      /does not define a function but a value of type number/,
    );
  });

  it('says how to send arguments that it cannot read', async () => {
    const answer = await host.runRaw('javascript', 'js\nf:() => 1', '00\ngAQpLg==\n');
    assert.match(errorOf(answer).text, /pickled.*JSONData\(\)/);
  });

  it('reads the JSON form of arguments that came in every form', async () => {
    const args = '13\n9\n11\n[1, 2]32\n00\ngASVCQAAAAAAAABdlChLAUsCZS4=\n';
    assert.equal(valueOf(await host.runRaw('javascript', 'js\nf:(a, b) => a + b', args)), 3);
  });

  it('answers structured clones with structured clones', async () => {
    const clone = (value: unknown): string => `v8\n${v8.serialize(value).toString('base64')}`;
    const answer = await host.runRaw(
      'javascript',
      'js\nf:(map) => new Map([...map, ["b", 2n]])',
      clone([new Map([['a', 1n]])]),
    );
    assert.match(answer.result?.data ?? '', /^v8\n/);
    const value: unknown = v8.deserialize(
      Buffer.from(answer.result?.data.slice(3) ?? '', 'base64'),
    );
    assert.deepEqual(
      value,
      new Map([
        ['a', 1n],
        ['b', 2n],
      ]),
    );
  });

  it('serializes the result as the submitter asked where JavaScript can', async () => {
    const prefix = 'globus_compute_sdk.serialize.';
    const all = await host.js('() => [1]', [], {
      resultSerializers: [`${prefix}DillDataBase64`, `${prefix}AllDataStrategies`],
    });
    assert.match(all.result?.data ?? '', /^13\n/);
    assert.deepEqual(unpackBuffers(all.result?.data.slice(3) ?? ''), ['11\n[1]']);
    assert.deepEqual(
      valueOf(await host.js('() => [1]', [], { resultSerializers: [`${prefix}DillDataBase64`] })),
      [1],
    );
  });

  for (const [what, source, problem] of [
    ['a BigInt', '() => 1n', /BigInt/],
    ['a circular object', '() => { const a = {}; a.a = a; return a }', /circular/],
    ['a function', '() => () => 1', /no form for a function/],
    ['a Map', '() => new Map()', /Map/],
  ] as const) {
    it(`names the problem of ${what} as a result`, async () => {
      assert.match(errorOf(await host.js(source)).text, problem);
    });
  }

  it('refuses a result over the limit by its size', async () => {
    const { result } = await host.js('(n) => "x".repeat(n)', [10_000]);
    assert.equal(result?.data, 'MaxResultSizeExceeded(10005, 10000)');
    assert.deepEqual(result.error_details, {
      code: 'MaxResultSizeExceeded',
      user_message: 'remote error: Task result of 10005B exceeded current limit of 10000B',
    });
    assert.equal((valueOf(await host.js('(n) => "x".repeat(n)', [9_995])) as string).length, 9_995);
  });

  it('refuses a body that is not a task', async () => {
    host.send(
      {
        type: 'task',
        task_id: '11111111-2222-4333-8444-555555555555',
        nonce: 'n',
        language: 'javascript',
      },
      Buffer.from('\x02{}'),
    );
    const isAnswered = (): boolean =>
      host.frames.some((frame) => frame.type === 'result' && frame.nonce === 'n' && frame.failed);
    await host.when(isAnswered);
  });

  it('captures what a task prints, and only that', async () => {
    const first = await host.js(
      '() => { console.log("out %d", 1); console.error("err"); setTimeout(() => console.log("late"), 20); return 1 }',
    );
    assert.deepEqual(first.frame.type === 'result' && first.frame.output, {
      stdout: 'out 1\n',
      stderr: 'err\n',
    });
    // What outlives its task must not fill the output of the next one in the same thread.
    const next = await Promise.all(
      [1, 2].map(async () => await host.js('() => new Promise((r) => setTimeout(r, 60))')),
    );
    assert.deepEqual(
      next.map(({ frame }) => (frame.type === 'result' ? frame.output : 'failed')),
      [undefined, undefined],
    );
  });

  it('keeps the tail of long output', async () => {
    const { frame } = await host.js('() => { for (let i = 0; i < 5000; i++) console.log(i) }');
    assert.ok(frame.type === 'result' && frame.output?.stdout !== undefined);
    assert.equal(frame.output.stdout.length, 1024);
    assert.ok(frame.output.stdout.endsWith('4998\n4999\n'));
    assert.equal(frame.output.truncated, true);
  });

  it('fails the task that leaves a rejection behind while it runs, and no other', async () => {
    const own = await host.js('() => new Promise(() => { Promise.reject(new Error("floating")) })');
    assert.match(errorOf(own).text, /^Error: floating/);
    const thrown = await host.js(
      '() => new Promise(() => { setTimeout(() => { throw new Error("timer") }, 1) })',
    );
    assert.match(errorOf(thrown).text, /^Error: timer/);
    assert.equal(
      valueOf(
        await host.js(
          '() => { setTimeout(() => { Promise.reject(new Error("later")) }, 10); return 1 }',
        ),
      ),
      1,
    );
    const next = await Promise.all(
      [1, 2].map(async () => await host.js('() => new Promise((r) => setTimeout(r, 50, 7))')),
    );
    assert.deepEqual(next.map(valueOf), [7, 7]);
  });

  it('names the failure of a function that ends its thread, and replaces the thread', async () => {
    const { code, message, lost } = failureOf(await host.js('() => process.exit(3)'));
    assert.equal(code, 'WORKER_EXITED');
    assert.match(message, /exit code 3/);
    assert.equal(lost, true);
    await host.placesAre(2, 0);
    assert.equal(valueOf(await host.js('() => 1')), 1);
  });

  it('ends an endless loop at its time limit', async () => {
    const { code, message, lost } = failureOf(
      await host.js('() => { for (;;); }', [], { timeoutMs: 150 }),
    );
    assert.equal(code, 'TASK_TIMED_OUT');
    assert.match(message, /limit of 0\.15 s/);
    assert.equal(lost, false);
    await host.placesAre(2, 0);
  });

  it('cancels a running task', async () => {
    const running = host.js('() => new Promise(() => {})', [], { nonce: 'cancel-me' });
    await host.js('() => 1');
    host.send({ type: 'cancel', task_id: 'x', nonce: 'cancel-me' });
    assert.equal(failureOf(await running).code, 'TASK_CANCELLED');
    await host.placesAre(2, 0);
  });

  it('passes a large argument and a large body through', async () => {
    const text = 'é😀'.repeat(300_000);
    assert.equal(valueOf(await host.js('(s) => [...s].length', [text])), 600_000);
  });
});

describe('worker host: JavaScript threads that fail', () => {
  it('names a thread that ran out of its heap, and survives it', async () => {
    const host = await TestHost.start({ javascript: { threads: 1, heapMb: 24 } });
    try {
      await host.placesAre(1, 0);
      const answer = await host.js(
        '() => { const all = []; for (;;) all.push({ n: all.length, s: [1, 2, 3] }) }',
      );
      const { code, message } = failureOf(answer);
      assert.equal(code, 'WORKER_KILLED_OOM');
      assert.match(message, /heap of 24 MiB/);
      await host.placesAre(1, 0);
      assert.equal(valueOf(await host.js('() => 1')), 1);
    } finally {
      await host.dispose();
    }
  });

  it('gives back its places and exits when a thread cannot be ended, after its other tasks', async () => {
    const host = await TestHost.start({ javascript: { threads: 2, heapMb: 64 }, killGraceMs: 200 });
    try {
      await host.placesAre(2, 0);
      const [begun, gate] = [join(host.directory, 'begun'), join(host.directory, 'gate')];
      const other = host.js(
        'async (path) => { while (!require("fs").existsSync(path)) await new Promise((r) => setTimeout(r, 20)); return "done"; }',
        [gate],
      );
      let blocked: Answer;
      let timeoutMs = 100;
      do {
        // Until the call has begun the thread can be ended; on a busy machine that takes a while.
        blocked = await host.js(
          '(path) => { require("fs").writeFileSync(path, ""); require("child_process").execSync("sleep 60"); }',
          [begun],
          { timeoutMs },
        );
        timeoutMs *= 4;
      } while (!existsSync(begun));
      const { code, message } = failureOf(blocked);
      assert.equal(code, 'TASK_TIMED_OUT');
      assert.match(message, /blocked in a synchronous call/);
      await host.placesAre(0, 0);
      writeFileSync(gate, '');
      assert.equal(valueOf(await other), 'done');
      const { code: exitCode, signal } = await host.exited;
      assert.deepEqual({ exitCode, signal }, { exitCode: null, signal: 'SIGKILL' });
    } finally {
      await host.dispose();
    }
  });

  it('reports that threads cannot start, with the reason', async () => {
    const host = await TestHost.start({ javascript: { threads: 1, heapMb: 1 } });
    try {
      await host.when(() => host.degraded.length > 0);
      assert.match(host.degraded[0]?.reason ?? '', /ended before it was ready.*heap 1 MiB/);
      assert.equal(failureOf(await host.js('() => 1')).code, 'WORKER_START_FAILED');
    } finally {
      await host.dispose();
    }
  });

  it('ends what functions have started when it stops', async () => {
    const host = await TestHost.start({ javascript: { threads: 1, heapMb: 64 } });
    try {
      await host.placesAre(1, 0);
      const pid = valueOf(
        await host.js(
          '() => require("child_process").spawn("sleep", ["60"], { stdio: "ignore" }).pid',
        ),
      ) as number;
      assert.ok(isAlive(pid));
      host.send({ type: 'stop' });
      assert.deepEqual(await host.exited, { code: 0, signal: null });
      assert.ok(!isAlive(pid));
    } finally {
      await host.dispose();
    }
  });
});
