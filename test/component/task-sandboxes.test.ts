import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { eventually } from '../support/eventually.ts';
import { ENDPOINT_ID, PYTHON, TestHost, interpretersOf } from '../support/worker-host.ts';
import type { Answer } from '../support/worker-host.ts';

const TASK_ID = '11111111-2222-4333-8444-555555555555';
const OTHER_ID = '99999999-2222-4333-8444-555555555555';

function valueOf({ result }: Answer): unknown {
  assert.equal(result?.error_details, null, result?.data);
  return JSON.parse(result.data.slice(3));
}

/** What lies in the working directory, but for the directory of the marks. */
function leftIn(host: TestHost): string[] {
  return readdirSync(host.workingDir).filter((name) => name !== '.sandboxes');
}

function marksDir(workingDir: string): string {
  return join(workingDir, '.sandboxes', `${ENDPOINT_ID}@${hostname()}`);
}

async function nothingIsLeft(host: TestHost): Promise<void> {
  await eventually(() => {
    assert.deepEqual(leftIn(host), []);
    assert.deepEqual(readdirSync(marksDir(host.workingDir)), []);
  });
}

describe('sandboxes of tasks', () => {
  let host: TestHost;

  before(async () => {
    host = await TestHost.start({
      javascript: { threads: 1, heapMb: 64 },
      python: { interpreters: 1, executable: PYTHON },
      runInSandbox: true,
    });
    await host.placesAre(1, 1);
  });

  after(async () => {
    await host.dispose();
  });

  afterEach(async () => {
    await host.placesAre(1, 1);
    await nothingIsLeft(host);
  });

  it('are where a Python function starts, and are gone after it', async () => {
    const source =
      'import os\ndef f():\n    open("file", "w").close()\n    os.makedirs("a/b")\n    return [os.getcwd(), os.environ["GC_TASK_SANDBOX_DIR"], os.environ["GC_TASK_UUID"]]\n';
    const path = join(host.workingDir, TASK_ID);
    assert.deepEqual(valueOf(await host.py(source, [], { taskId: TASK_ID })), [
      path,
      path,
      TASK_ID,
    ]);
    assert.deepEqual(leftIn(host), []);
  });

  it('are named to a JavaScript function, and are gone after it', async () => {
    const source =
      'async () => { const { GC_TASK_SANDBOX_DIR: dir, GC_TASK_WORKING_DIR: cwd } = process.env; require("fs").writeFileSync(dir + "/x", "x"); return [dir, cwd]; }';
    const path = join(host.workingDir, TASK_ID);
    assert.deepEqual(valueOf(await host.js(source, [], { taskId: TASK_ID })), [path, path]);
    assert.deepEqual(leftIn(host), []);
  });

  it('go although the function failed, moved elsewhere and made its files read-only', async () => {
    const answer = await host.py(
      'import os\ndef f():\n    os.makedirs("a/b/c")\n    os.chmod("a/b", 0o500)\n    os.chmod("a", 0)\n    os.chdir("/")\n    raise ValueError("x")\n',
    );
    assert.equal(answer.frame.type === 'result' && answer.frame.failed, true);
    assert.deepEqual(leftIn(host), []);
  });

  it('survive a fork of the function that returns', async () => {
    const source =
      'import os\ndef f():\n    open("kept", "w").close()\n    pid = os.fork()\n    if pid:\n        os.waitpid(pid, 0)\n    return os.listdir() if pid else None\n';
    assert.deepEqual(valueOf(await host.py(source)), ['kept']);
  });

  for (const [what, source, code, timeoutMs] of [
    [
      'ran over its time',
      'import time\ndef f():\n    open("x", "w").close()\n    time.sleep(60)\n',
      'TASK_TIMED_OUT',
      700,
    ],
    [
      'ended its interpreter',
      'import os\ndef f():\n    open("x", "w").close()\n    os._exit(3)\n',
      'WORKER_EXITED',
      60_000,
    ],
  ] as const) {
    it(`of a Python task that ${what} go with its failure`, async () => {
      const { frame } = await host.py(source, [], { timeoutMs });
      assert.equal(frame.type === 'failed' && frame.code, code);
      assert.deepEqual(leftIn(host), []);
    });
  }

  it('of an interpreter that was killed go with its failure', async () => {
    const running = host.py(
      'import time\ndef f():\n    open("x", "w").close()\n    time.sleep(60)\n',
      [],
      { taskId: TASK_ID },
    );
    await eventually(() => {
      assert.ok(existsSync(join(host.workingDir, TASK_ID, 'x')));
    });
    for (const pid of interpretersOf(host)) {
      process.kill(pid, 'SIGKILL');
    }
    assert.equal((await running).frame.type, 'failed');
    assert.deepEqual(leftIn(host), []);
  });

  it('of a thread that was ended go with its failure', async () => {
    const source =
      '() => { require("fs").writeFileSync(process.env.GC_TASK_SANDBOX_DIR + "/x", ""); for (;;); }';
    const { frame } = await host.js(source, [], { timeoutMs: 300 });
    assert.equal(frame.type === 'failed' && frame.code, 'TASK_TIMED_OUT');
    assert.deepEqual(leftIn(host), []);
  });

  it('are fresh when a task is started again', async () => {
    mkdirSync(join(host.workingDir, TASK_ID));
    writeFileSync(join(host.workingDir, TASK_ID, 'old'), '');
    const source = 'import os\ndef f():\n    return os.listdir()\n';
    assert.deepEqual(valueOf(await host.py(source, [], { taskId: TASK_ID })), []);
  });
});

describe('sandboxes of a host that was killed', () => {
  it('are swept at the next start, and nothing else is', async () => {
    const host = await TestHost.start({
      python: { interpreters: 1, executable: PYTHON },
      runInSandbox: true,
    });
    try {
      await host.placesAre(0, 1);
      const { workingDir } = host;
      const running = host.py(
        'import time\ndef f():\n    open("x", "w").close()\n    time.sleep(60)\n',
        [],
        { taskId: TASK_ID },
      );
      running.catch(() => undefined);
      await eventually(() => {
        assert.ok(existsSync(join(workingDir, TASK_ID, 'x')));
      });
      host.process.kill('SIGKILL');
      await host.exited;
      // Of a neighbour that shares the working directory: its task is not in our marks.
      mkdirSync(join(workingDir, OTHER_ID));
      mkdirSync(join(marksDir(workingDir), 'trash-1'));
      const next = await TestHost.start({
        python: { interpreters: 1, executable: PYTHON },
        workingDir,
        runInSandbox: true,
      });
      try {
        await next.placesAre(0, 1);
        await eventually(() => {
          assert.deepEqual(leftIn(host), [OTHER_ID]);
          assert.deepEqual(readdirSync(marksDir(workingDir)), []);
        });
      } finally {
        await next.dispose();
      }
    } finally {
      await host.dispose();
    }
  });
});

describe('without sandboxes', () => {
  it('tasks run in the working directory and leave nothing of ours in it', async () => {
    const host = await TestHost.start({
      javascript: { threads: 1, heapMb: 64 },
      python: { interpreters: 1, executable: PYTHON },
    });
    try {
      await host.placesAre(1, 1);
      const python =
        'import os\ndef f():\n    return [os.getcwd(), os.environ.get("GC_TASK_SANDBOX_DIR")]\n';
      assert.deepEqual(valueOf(await host.py(python)), [host.workingDir, null]);
      const javascript =
        '() => [process.env.GC_TASK_WORKING_DIR, process.env.GC_TASK_SANDBOX_DIR ?? null]';
      assert.deepEqual(valueOf(await host.js(javascript)), [host.workingDir, null]);
      assert.deepEqual(readdirSync(host.workingDir), []);
    } finally {
      await host.dispose();
    }
  });
});
