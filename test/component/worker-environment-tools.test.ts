/**
 * Python functions in environments that a tool of the site sets up, with the real tool where this machine has it. An environment of
 * each kind is made here, without a package and without the network.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { TaskEnvironment } from '../../src/protocol/sharing.ts';
import { runProgram } from '../support/stack.ts';
import { PYTHON, TestHost } from '../support/worker-host.ts';
import type { Answer } from '../support/worker-host.ts';

const SOURCE = `
def f(x):
    import os, sys
    print("said")
    return [os.environ.get("SITE"), sys.executable, sys.prefix, x]
`;

function value(answer: Answer): unknown {
  const data = answer.result?.data;
  assert.ok(data !== undefined && answer.frame.type === 'result', JSON.stringify(answer.frame));
  assert.equal(answer.frame.failed, false, data);
  return JSON.parse(data.replace(/^11\n/, ''));
}

function environment(type: TaskEnvironment['type'], location: string): TaskEnvironment {
  return { id: randomUUID(), type, location };
}

describe('tools of a site that set up environments', function () {
  // A tool is itself a program of many parts, and several are started here.
  this.timeout(120_000);
  let root = '';
  let host: TestHost | undefined;

  async function start(variables: Readonly<Record<string, string>>): Promise<TestHost> {
    const started = await TestHost.start({
      python: { interpreters: 1, executable: PYTHON },
      // A home without a profile: what a person's own sets is no affair of the test.
      environment: { HOME: root, ...variables },
      environments: {
        rules: { allow: ['module', 'conda'], map: {}, options: {} },
        warmMax: 1,
        startTimeoutMs: 100_000,
      },
    });
    host = started;
    await started.placesAre(0, 1);
    return started;
  }

  before(() => {
    root = mkdtempSync(join(tmpdir(), 'outpost-tools-'));
  });

  afterEach(async () => {
    const ended = host;
    host = undefined;
    await ended?.dispose();
  });

  after(() => {
    rmSync(root, { recursive: true, force: true });
  });

  describe('modules', () => {
    before(() => {
      mkdirSync(join(root, 'modules/site'), { recursive: true });
      mkdirSync(join(root, 'bin'));
      symlinkSync(PYTHON, join(root, 'bin/python3'));
      const lines = [
        '#%Module1.0',
        'puts stderr "said by the module"',
        'setenv SITE modules',
        `prepend-path PATH ${join(root, 'bin')}`,
      ];
      writeFileSync(join(root, 'modules/site/1'), `${lines.join('\n')}\n`);
    });

    it('give a function what Environment Modules or Lmod load, and fail it with what they say', async function () {
      if (spawnSync('bash', ['-lc', 'command -v module']).status !== 0) {
        // apt-get install environment-modules
        this.skip();
      }
      const started = await start({ MODULEPATH: join(root, 'modules') });
      for (const location of ['site/1', 'site']) {
        const answer = await started.py(SOURCE, [7], {
          environment: environment('module', location),
        });
        const [site, executable, , x] = value(answer) as unknown[];
        assert.deepEqual([site, executable, x], ['modules', join(root, 'bin/python3'), 7]);
        assert.equal(answer.frame.output?.stdout, 'said\n');
      }
      const { frame } = await started.py(SOURCE, [7], {
        environment: environment('module', 'site/1 absent/2'),
      });
      assert.ok(frame.type === 'failed');
      assert.equal(frame.code, 'WORKER_START_FAILED');
      assert.match(frame.message, /absent\/2/);
    });

    it('run no function outside of them when the failure of `module load` is lost', async () => {
      // As in Environment Modules 3.2: nothing is loaded, and the exit code is that of an empty eval.
      const home = join(root, 'old');
      mkdirSync(home);
      writeFileSync(
        join(home, '.bash_profile'),
        [
          'export LOADEDMODULES=base/1',
          'load() { if [ "$2" = site/1 ]; then echo "export SITE=old LOADEDMODULES=$LOADEDMODULES:site/1"; else echo "ERROR:105: Unable to locate a modulefile for $2" >&2; return 1; fi; }',
          'module() { eval "$(load "$@")"; }',
          '',
        ].join('\n'),
      );
      const started = await start({ HOME: home });
      const loaded = await started.py(SOURCE, [7], {
        environment: environment('module', 'site/1'),
      });
      assert.equal((value(loaded) as unknown[])[0], 'old');
      const { frame } = await started.py(SOURCE, [7], {
        environment: environment('module', 'site/1 absent/2'),
      });
      assert.ok(frame.type === 'failed', 'the function ran outside of the module');
      assert.equal(frame.code, 'WORKER_START_FAILED');
      assert.match(frame.message, /Unable to locate[^]*module load absent\/2: it is not among/);
    });
  });

  it('conda gives a function an environment by its name, with what its activation sets', async function () {
    if (spawnSync('conda', ['--version']).error !== undefined) {
      this.skip();
    }
    const there = join(root, 'envs/science');
    const made = await runProgram(PYTHON, ['-m', 'venv', '--without-pip', there]);
    assert.equal(made.code, 0, made.stderr);
    // What makes a directory an environment of conda.
    mkdirSync(join(there, 'conda-meta'));
    writeFileSync(join(there, 'conda-meta/history'), '');
    mkdirSync(join(there, 'etc/conda/activate.d'), { recursive: true });
    writeFileSync(join(there, 'etc/conda/activate.d/site.sh'), 'export SITE=conda\n');
    const started = await start({ CONDA_ENVS_DIRS: join(root, 'envs') });
    const answer = await started.py(SOURCE, [7], { environment: environment('conda', 'science') });
    const [site, , prefix, x] = value(answer) as unknown[];
    assert.deepEqual([site, prefix, x], ['conda', there, 7]);
    assert.equal(answer.frame.output?.stdout, 'said\n');
    const { frame } = await started.py(SOURCE, [7], {
      environment: environment('conda', 'absent'),
    });
    assert.ok(frame.type === 'failed');
    assert.match(frame.message, /absent/);
    assert.deepEqual(
      readdirSync(started.workingDir).filter((name) => name.startsWith('.outpost-output')),
      [],
    );
  });
});
