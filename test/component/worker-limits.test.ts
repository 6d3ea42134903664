/** What a worker host may take of the machine: niceness of everything that it runs, and the address space of interpreters. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { getPriority } from 'node:os';

import { eventually } from '../support/eventually.ts';
import { PYTHON, TestHost, interpretersOf } from '../support/worker-host.ts';

const MEMORY_MB = 512;
const NICE = 7;
/** What runs the tests may be niced itself. */
const PRIORITY = Math.max(NICE, getPriority());

/** Niceness of a thread, the 19th field of its stat; those after the name in parentheses are counted. */
function niceOf(path: string): number {
  const text = readFileSync(path, 'latin1');
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[16]);
}

describe('limits of a worker host', function () {
  let host: TestHost;

  before(async () => {
    host = await TestHost.start({
      javascript: { threads: 1, heapMb: 64 },
      python: { interpreters: 1, executable: PYTHON, memoryMb: MEMORY_MB },
      nice: NICE,
    });
    await host.placesAre(1, 1);
  });

  after(async () => {
    await host.dispose();
  });

  afterEach(async () => {
    await host.placesAre(1, 1);
  });

  it('stand back with every thread and interpreter', () => {
    const pid = host.process.pid ?? 0;
    const threads = readdirSync(`/proc/${pid}/task`).map((id) => `/proc/${pid}/task/${id}/stat`);
    assert.ok(threads.length > 4);
    assert.deepEqual([...new Set(threads.map(niceOf))], [PRIORITY]);
    const [interpreter] = interpretersOf(host);
    assert.equal(getPriority(interpreter), PRIORITY);
  });

  it('can be seen by a function', async () => {
    const { result } = await host.py('import os\ndef f():\n    return os.nice(0)\n');
    assert.equal(result?.data, `11\n${PRIORITY}`);
  });

  it('name the setting when a function needs more memory than it may have', async () => {
    const { frame, result } = await host.py('def f(n):\n    return len(bytearray(n))\n', [2 ** 30]);
    assert.ok(frame.type === 'result' && frame.failed);
    const limited = /worker_memory_mb limits this interpreter to 512 MiB of address space/;
    assert.match(result?.data ?? '', /MemoryError/);
    assert.match(result?.data ?? '', limited);
    assert.equal(result?.error_details?.exception?.type, 'MemoryError');
    assert.match(result.error_details.exception.message, limited);
    const small = await host.py('def f(n):\n    return len(bytearray(n))\n', [2 ** 20]);
    assert.equal(small.result?.data, `11\n${2 ** 20}`);
  });

  it('hold for what a function starts', async () => {
    const { result } = await host.py(
      'import subprocess, sys\n' +
        'def f():\n' +
        '    code = "import resource; print(resource.getrlimit(resource.RLIMIT_AS))"\n' +
        '    return subprocess.check_output([sys.executable, "-c", code], text=True).strip()\n',
    );
    const limit = MEMORY_MB << 20;
    assert.equal(result?.data, `11\n"(${limit}, ${limit})"`);
  });

  it('name the setting when the interpreter itself dies of it', async () => {
    const { frame } = await host.py(
      'import os, sys\n' +
        'def f():\n' +
        '    sys.stderr.write("terminate called after throwing an instance of \'std::bad_alloc\'\\n")\n' +
        '    os.abort()\n',
    );
    assert.ok(frame.type === 'failed', JSON.stringify(frame));
    assert.equal(frame.code, 'WORKER_KILLED_OOM');
    assert.match(
      frame.message,
      /ran out of the 512 MiB of address space that worker_memory_mb gives it/,
    );
    await host.placesAre(1, 1);
    const crash = await host.py('import os\ndef f():\n    os.kill(os.getpid(), 11)\n');
    assert.ok(crash.frame.type === 'failed');
    assert.equal(crash.frame.code, 'WORKER_EXITED');
    assert.match(crash.frame.message, /worker_memory_mb limits it to 512 MiB/);
  });

  it('say why no interpreter starts when they are too tight', async () => {
    const tight = await TestHost.start({
      python: { interpreters: 1, executable: PYTHON, memoryMb: 16 },
    });
    try {
      await eventually(() => {
        assert.match(tight.degraded[0]?.reason ?? '', /worker_memory_mb gives it/);
      });
    } finally {
      await tight.dispose();
    }
  });
});
