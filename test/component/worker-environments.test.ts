/** Python functions in execution environments, in a real worker host: a virtual environment, and a bubblewrap root by the site's prefix. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { EnvironmentRules } from '../../src/protocol/environments.ts';
import type { TaskEnvironment } from '../../src/protocol/sharing.ts';
import { eventually } from '../support/eventually.ts';
import { isAlive } from '../support/processes.ts';
import { runProgram } from '../support/stack.ts';
import { PYTHON, TestHost } from '../support/worker-host.ts';
import type { Answer } from '../support/worker-host.ts';

/** The container's root of the system, and nothing that is the user's. */
const BWRAP = [
  'bwrap',
  ...[
    '--ro-bind',
    '/usr',
    '/usr',
    '--symlink',
    'usr/lib',
    '/lib',
    '--symlink',
    'usr/lib64',
    '/lib64',
  ],
  ...['--symlink', 'usr/bin', '/bin', '--dev', '/dev', '--proc', '/proc', '--tmpfs', '/tmp'],
  ...['--bind', '{working_dir}', '{working_dir}', '--ro-bind', '{worker_dir}', '{worker_dir}'],
  ...['--unshare-all', '--die-with-parent', '--new-session'],
];

function value(answer: Answer): unknown {
  const data = answer.result?.data;
  assert.ok(data !== undefined && answer.frame.type === 'result', JSON.stringify(answer.frame));
  assert.equal(answer.frame.failed, false, data);
  return JSON.parse(data.replace(/^11\n/, ''));
}

/** Processes with a text in their command line. */
function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/cmdline`, 'latin1').includes(text);
      } catch {
        return false;
      }
    })
    .map(Number)
    .filter((pid) => pid !== process.pid && isAlive(pid));
}

describe('execution environments of a worker host', () => {
  let root = '';
  let host: TestHost | undefined;

  function environment(location: string, type: TaskEnvironment['type'] = 'venv'): TaskEnvironment {
    return { id: randomUUID(), type, location };
  }

  async function start(
    rules: Partial<EnvironmentRules>,
    { warmMax = 2, interpreters = 1 } = {},
  ): Promise<TestHost> {
    const started = await TestHost.start({
      python: { interpreters, executable: PYTHON },
      environments: {
        rules: { allow: [], map: {}, options: {}, ...rules },
        warmMax,
        startTimeoutMs: 20_000,
      },
    });
    host = started;
    await started.placesAre(0, interpreters);
    return started;
  }

  before(async () => {
    root = mkdtempSync(join(tmpdir(), 'outpost-environments-'));
    for (const name of ['one', 'two', 'three']) {
      const made = await runProgram(PYTHON, ['-m', 'venv', '--without-pip', join(root, name)]);
      assert.equal(made.code, 0, made.stderr);
      for (const version of readdirSync(join(root, name, 'lib'))) {
        const packages = join(root, name, 'lib', version, 'site-packages');
        writeFileSync(join(packages, 'only_here.py'), `NAME = ${JSON.stringify(name)}\n`);
      }
    }
  });

  afterEach(async () => {
    const ended = host;
    host = undefined;
    await ended?.dispose();
  });

  after(() => {
    rmSync(root, { recursive: true, force: true });
  });

  it('runs a function with a package that only the virtual environment has', async () => {
    const { py } = bound(await start({ allow: [`venv:${root}/*`] }));
    const source =
      'def f():\n import only_here, os, sys\n print("said")\n return [only_here.NAME, sys.prefix, os.environ["VIRTUAL_ENV"]]\n';
    const there = join(root, 'one');
    const answer = await py(source, [], { environment: environment(there) });
    assert.deepEqual(value(answer), ['one', there, there]);
    assert.equal(answer.frame.output?.stdout, 'said\n');
    assert.match((await py(source)).result?.data ?? '', /No module named 'only_here'/);
  });

  it('keeps as many idle interpreters as the setting says, those that were used last', async () => {
    const { py } = bound(await start({ allow: [`venv:${root}/*`] }));
    const pid = 'def f():\n import os\n return os.getpid()\n';
    const three = ['one', 'two', 'three'].map((name) => environment(join(root, name)));
    const pids: number[] = [];
    for (const each of [...three, ...three.slice(1)]) {
      pids.push(value(await py(pid, [], { environment: each })) as number);
    }
    assert.deepEqual(pids.slice(3), pids.slice(1, 3));
    await eventually(() => {
      assert.ok(!isAlive(pids[0] ?? 0));
    });
    assert.ok(isAlive(pids[1] ?? 0));
  });

  it('runs no more tasks at a time than there are places, wherever they run', async () => {
    const { py } = bound(await start({ allow: ['venv'] }, { interpreters: 2 }));
    const log = join(root, 'running');
    mkdirSync(log, { recursive: true });
    const source =
      'def f(d):\n import os, time\n p = os.path.join(d, str(os.getpid()))\n open(p, "w").close()\n time.sleep(0.05)\n n = len(os.listdir(d))\n os.unlink(p)\n return n\n';
    const places = [undefined, environment(join(root, 'one')), environment(join(root, 'two'))];
    const answers = await Promise.all(
      Array.from({ length: 18 }, async (_, index) => {
        const where = places[index % 3];
        return await py(source, [log], where === undefined ? {} : { environment: where });
      }),
    );
    assert.ok(Math.max(...answers.map((answer) => value(answer) as number)) <= 2);
  });

  it('refuses an environment that is not allowed, and says what the operator can set', async () => {
    const { py } = bound(await start({ allow: [`venv:${root}/*`] }));
    for (const location of ['/opt/other', `${root}/../other`]) {
      const { frame } = await py('def f():\n return 1\n', [], {
        environment: environment(location),
      });
      assert.ok(frame.type === 'failed');
      assert.equal(frame.code, 'ENVIRONMENT_NOT_AVAILABLE');
      assert.match(frame.message, /`allow` of `environments`/);
    }
  });

  it('runs a function nowhere else when nothing is said about environments', async () => {
    const plain = await TestHost.start({ python: { interpreters: 1, executable: PYTHON } });
    host = plain;
    await plain.placesAre(0, 1);
    const where = environment(join(root, 'one'));
    const { frame } = await plain.py('def f():\n return 1\n', [], { environment: where });
    assert.ok(frame.type === 'failed');
    assert.equal(frame.code, 'ENVIRONMENT_NOT_AVAILABLE');
  });

  it('fails the tasks of an environment that does not start with what it said, and runs the others', async () => {
    const broken = environment('/sw/broken');
    const { py } = bound(
      await start({
        allow: [`venv:${root}/*`],
        map: { [broken.id]: { prefix: ['sh', '-c', 'echo no such filesystem >&2; exit 7'] } },
      }),
    );
    const source = 'def f():\n return 1\n';
    for (let round = 0; round < 2; round += 1) {
      const { frame } = await py(source, [], { environment: broken });
      assert.ok(frame.type === 'failed');
      assert.equal(frame.code, 'WORKER_START_FAILED');
      assert.match(
        frame.message,
        /of environment .* ended before it was ready \(exit code 7\)[^]*no such filesystem/,
      );
    }
    assert.equal(value(await py(source, [], { environment: environment(join(root, 'one')) })), 1);
    assert.equal(value(await py(source)), 1);
    const { frame } = await py(source, [], { environment: environment(join(root, 'missing')) });
    assert.ok(frame.type === 'failed');
    assert.match(frame.message, /missing\/bin\/python.* does not exist/);
  });

  it('ends a task that runs too long with its interpreter, and the place runs the next one', async () => {
    const { host: one, py } = bound(await start({ allow: ['venv'] }));
    const where = environment(join(root, 'one'));
    const { frame } = await one.overtime(
      'def f():\n import subprocess, time\n print("begun", flush=True)\n subprocess.Popen(["sleep", "77701"])\n time.sleep(60)\n',
      /begun/,
      { environment: where },
    );
    assert.equal(frame.output?.stdout, 'begun\n');
    assert.deepEqual(processesWith('\0' + '77701'), []);
    assert.equal(value(await py('def f():\n return 2\n', [], { environment: where })), 2);
    assert.equal(value(await py('def f():\n return 3\n')), 3);
  });

  it('does not begin a task twice when the own interpreter of its place dies meanwhile', async () => {
    const { host: one, py } = bound(await start({ allow: ['venv'] }));
    const own = value(await py('def f():\n import os\n return os.getpid()\n')) as number;
    const log = join(root, 'begun');
    const running = py(
      'def f(p):\n import time\n open(p, "a").write("x")\n time.sleep(1)\n return 1\n',
      [log],
      { environment: environment(join(root, 'one')) },
    );
    await eventually(() => {
      assert.ok(existsSync(log));
    });
    process.kill(own, 'SIGKILL');
    assert.equal(value(await running), 1);
    assert.equal(readFileSync(log, 'utf8'), 'x');
    await one.placesAre(0, 1);
    assert.equal(value(await py('def f():\n return 4\n')), 4);
  });

  describe('with a launcher in between', () => {
    before(() => {
      assert.ok(
        existsSync('/usr/bin/bwrap'),
        'bubblewrap is not there: apt-get install bubblewrap, or node scripts/prerequisites.mjs',
      );
    });

    function inRoot(where: TaskEnvironment): Partial<EnvironmentRules> {
      return { map: { [where.id]: { prefix: BWRAP, interpreter: '/usr/bin/python3' } } };
    }

    it('runs in another root, and returns result, output and errors', async () => {
      const where = environment('/sw/root');
      const { py, host: one } = bound(await start(inRoot(where)));
      const answer = await py(
        'def f():\n import os, subprocess, sys\n print("out")\n sys.stderr.write("err\\n")\n subprocess.run(["echo", "child"])\n return [os.path.exists("/etc"), os.getcwd(), os.environ["GREETING"]]\n',
        [],
        { environment: where },
      );
      assert.deepEqual(value(answer), [false, one.workingDir, 'hello']);
      assert.equal(answer.frame.output?.stdout, 'out\nchild\n');
      assert.equal(answer.frame.output.stderr, 'err\n');
      const failed = await py('def f():\n raise ValueError("no")\n', [], { environment: where });
      assert.match(failed.result?.data ?? '', /ValueError: no/);
      assert.deepEqual(
        readdirSync(one.workingDir).filter((name) => name.startsWith('.outpost-output')),
        [],
      );
    });

    it('keeps what a task printed that is ended, and leaves nothing of it behind', async () => {
      const where = environment('/sw/root');
      const { host: one, py } = bound(await start(inRoot(where)));
      const { frame } = await one.overtime(
        'def f():\n import subprocess, time\n print("begun", flush=True)\n subprocess.Popen(["sleep", "77702"], start_new_session=True)\n time.sleep(60)\n',
        /begun/,
        { environment: where },
      );
      assert.equal(frame.output?.stdout, 'begun\n');
      await eventually(() => {
        assert.deepEqual(processesWith('\0' + '77702'), []);
      });
      assert.equal(value(await py('def f():\n return 2\n', [], { environment: where })), 2);
    });

    it('names the end of an interpreter that exits under a task', async () => {
      const where = environment('/sw/root');
      const { py } = bound(await start(inRoot(where)));
      const gone = await py(
        'def f():\n import os, sys\n sys.stderr.write("last words\\n")\n os._exit(3)\n',
        [],
        { environment: where },
      );
      assert.ok(gone.frame.type === 'failed');
      assert.equal(gone.frame.code, 'WORKER_EXITED');
      assert.match(gone.frame.message, /exit code 3[^]*last words/);
      assert.equal(value(await py('def f():\n return 2\n', [], { environment: where })), 2);
    });

    it('ends a running function when the host is killed, without a signal of the launcher', async () => {
      const where = environment('/sw/shell');
      const { host: one, py } = bound(
        // A shell that stays: nothing but the end of the stream reaches the interpreter.
        await start({
          map: {
            [where.id]: {
              prefix: ['setsid', '-w', 'sh', '-c', '"$@"; true', 'sh'],
              interpreter: PYTHON,
            },
          },
        }),
      );
      const mark = join(root, 'pid');
      void py(
        'def f(p):\n import os, time\n open(p, "w").write(str(os.getpid()))\n time.sleep(60)\n',
        [mark],
        { environment: where },
      );
      await eventually(() => {
        assert.match(readFileSync(mark, 'utf8'), /\d/);
      });
      const pid = Number(readFileSync(mark, 'utf8'));
      one.process.kill('SIGKILL');
      await eventually(() => {
        assert.ok(!isAlive(pid));
      });
    });
  });

  it('takes all interpreters with it when it stops', async () => {
    const where = environment(join(root, 'one'));
    const { host: one, py } = bound(await start({ allow: ['venv'] }));
    const warm = value(
      await py('def f():\n import os\n return os.getpid()\n', [], { environment: where }),
    );
    one.send({ type: 'stop' });
    assert.deepEqual(await one.exited, { code: 0, signal: null });
    assert.ok(!isAlive(Number(warm)));
  });
});

function bound(host: TestHost): { host: TestHost; py: TestHost['py'] } {
  return { host, py: host.py.bind(host) };
}
