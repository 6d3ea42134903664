import assert from 'node:assert/strict';

import type { EnvironmentLauncher } from '../../../src/protocol/environments.ts';
import type { TaskEnvironment } from '../../../src/protocol/sharing.ts';
import { planLaunch } from '../../../src/workers/environments/launch.ts';
import type { Launch, LaunchContext } from '../../../src/workers/environments/launch.ts';

const CONTEXT: LaunchContext = {
  workingDir: '/work dir/tasks',
  workerDir: '/usr/lib/outpost/python',
  options: {},
  environment: { PATH: '/usr/bin:/bin' },
  passedOn: ['LANG', 'OMP_NUM_THREADS'],
  containerName: 'outpost-12-3',
  user: { uid: 1000, gid: 100 },
};

function plan(
  type: TaskEnvironment['type'],
  location: string,
  { launcher = {}, ...context }: Partial<LaunchContext> & { launcher?: EnvironmentLauncher } = {},
): Launch {
  const id = '11111111-2222-4333-8444-555555555555';
  return planLaunch({ id, type, location }, launcher, { ...CONTEXT, ...context });
}

describe('command lines for execution environments', () => {
  it('call the interpreter of a virtual environment itself', () => {
    assert.deepEqual(plan('venv', '/sw/venv'), {
      command: ['/sw/venv/bin/python'],
      transport: 'descriptors',
      variables: { VIRTUAL_ENV: '/sw/venv', PATH: '/sw/venv/bin:/usr/bin:/bin' },
    });
  });

  it('call that of a conda environment by its path, and ask conda for one by name', () => {
    assert.deepEqual(plan('conda', '/sw/conda/envs/a', { environment: {} }), {
      command: ['/sw/conda/envs/a/bin/python'],
      transport: 'descriptors',
      variables: { CONDA_PREFIX: '/sw/conda/envs/a', PATH: '/sw/conda/envs/a/bin' },
    });
    assert.deepEqual(plan('conda', 'science', { options: { conda: ['--no-dev'] } }), {
      command: ['conda', 'run', '--no-capture-output', '--name', 'science', '--no-dev', 'python'],
      transport: 'stdio',
      variables: {},
    });
  });

  it('load modules in a login shell, of which they are arguments and not text', () => {
    const { command, transport } = plan('module', 'gcc/12 python/$(id)');
    const [shell, flags, script, ...words] = command;
    assert.deepEqual([shell, flags], ['bash', '-lc']);
    assert.deepEqual(words, ['outpost', 'gcc/12 python/$(id)', 'python3']);
    assert.doesNotMatch(script ?? 'gcc', /gcc/);
    assert.equal(transport, 'descriptors');
  });

  it('bind the working directory, and the worker read-only, into an image', () => {
    for (const type of ['apptainer', 'singularity'] as const) {
      assert.deepEqual(plan(type, '/sw/a.sif', { options: { [type]: ['--nv'] } }), {
        command: [
          ...[type, 'exec', '--bind', '/work dir/tasks'],
          ...['--bind', '/usr/lib/outpost/python:/usr/lib/outpost/python:ro'],
          ...['--pwd', '/work dir/tasks', '--nv', '/sw/a.sif', 'python3'],
        ],
        transport: 'stdio',
        variables: {},
      });
    }
  });

  it('run a container that is named, so that it can be killed', () => {
    const common = [
      ...['--mount', 'type=bind,source=/work dir/tasks,target=/work dir/tasks'],
      '--mount',
      'type=bind,source=/usr/lib/outpost/python,target=/usr/lib/outpost/python,readonly',
      ...['--workdir', '/work dir/tasks', '--env', 'LANG', '--env', 'OMP_NUM_THREADS'],
    ];
    assert.deepEqual(plan('docker', 'python:3.11', { options: { docker: ['--network=none'] } }), {
      command: [
        ...['docker', 'run', '--interactive', '--rm', '--init', '--name', 'outpost-12-3'],
        ...['--user', '1000:100', ...common, '--network=none'],
        ...['--entrypoint', 'python3', 'python:3.11'],
      ],
      transport: 'stdio',
      variables: {},
      killCommand: ['docker', 'kill', 'outpost-12-3'],
    });
    assert.deepEqual(plan('podman', 'python:3.11', { launcher: { interpreter: '/opt/py' } }), {
      command: [
        ...['podman', 'run', '--interactive', '--rm', '--init', '--name', 'outpost-12-3'],
        ...['--userns', 'keep-id', ...common, '--entrypoint', '/opt/py', 'python:3.11'],
      ],
      transport: 'stdio',
      variables: {},
      killCommand: ['podman', 'kill', 'outpost-12-3'],
    });
    const asRoot = plan('podman', 'x', { user: { uid: 0, gid: 0 } }).command;
    assert.ok(!asRoot.includes('--userns'));
  });

  it('quote a directory with a comma as the fields of a mount are quoted', () => {
    const { command } = plan('docker', 'x', { workingDir: '/a,b' });
    assert.ok(command.includes('type=bind,"source=/a,b","target=/a,b"'));
  });

  it('put the words of the site before the interpreter, with what they name filled in', () => {
    const prefix = ['bwrap', '--bind', '{working_dir}', '{working_dir}', '{worker_dir}:{location}'];
    assert.deepEqual(plan('venv', '/sw/venv', { launcher: { prefix } }), {
      command: [
        ...['bwrap', '--bind', '/work dir/tasks', '/work dir/tasks'],
        ...['/usr/lib/outpost/python:/sw/venv', '/sw/venv/bin/python'],
      ],
      transport: 'stdio',
      variables: {},
    });
    const image = plan('docker', 'x', { launcher: { prefix: ['run-in', '{location}'] } });
    assert.deepEqual(image.command, ['run-in', 'x', 'python3']);
    assert.equal(image.killCommand, undefined);
  });
});
