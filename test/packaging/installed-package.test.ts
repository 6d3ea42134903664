/**
 * The package as somebody gets it: packed, put where `npm install -g` puts it, with nothing beside it but its own dependencies, and used.
 *
 * Suites have no network, so npm itself installs nothing here; what is not packed, or is a dependency of the tests only, is missing all the same.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';
import { Client, Executor } from '../../src/sdk/index.ts';
import { runProgram, Stack } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';

interface Manifest {
  readonly version: string;
  readonly bin: Readonly<Record<string, string>>;
  readonly exports: { readonly '.': { readonly types: string; readonly default: string } };
}

interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
}

describe('the package', function () {
  this.timeout(240_000);
  const root = packageRoot();
  let stack: Stack;
  let files: string[];
  let installed: string;
  let bin: string;
  let manifest: Manifest;

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    const packed = await program('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', stack.home], root); // prettier-ignore
    const [archive] = JSON.parse(packed) as { filename: string; files: { path: string }[] }[];
    assert.ok(archive !== undefined);
    files = archive.files.map(({ path }) => path);
    installed = join(stack.home, 'prefix/lib/node_modules/outpost');
    bin = join(stack.home, 'prefix/bin');
    mkdirSync(installed, { recursive: true });
    mkdirSync(bin);
    await program('tar', ['-xzf', join(stack.home, archive.filename), '-C', installed, '--strip-components=1']); // prettier-ignore
    manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as Manifest;
    linkDependencies();
    for (const [name, path] of Object.entries(manifest.bin)) {
      // As npm does.
      chmodSync(join(installed, path), 0o755);
      symlinkSync(relative(bin, join(installed, path)), join(bin, name));
    }
  });

  after(async () => {
    const running = stack as Stack | undefined;
    if (running !== undefined) {
      await agent('stop', 'packed');
      await running.stop();
    }
  });

  async function program(name: string, args: string[], cwd = stack.home): Promise<string> {
    const env = { PATH: process.env['PATH'], HOME: stack.home };
    const { code, stdout, stderr } = await runProgram(name, args, { env, cwd });
    assert.equal(code, 0, stderr);
    return stdout;
  }

  function linkDependencies(): void {
    const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as Lock;
    const names = Object.entries(lock.packages)
      .filter(([path, { dev }]) => dev !== true && /^node_modules\/(@[^/]+\/)?[^/]+$/.test(path))
      .map(([path]) => path);
    for (const name of names) {
      mkdirSync(dirname(join(installed, name)), { recursive: true });
      symlinkSync(join(root, name), join(installed, name));
    }
  }

  /** As its user types it; Node is found as everywhere. */
  async function agent(...args: string[]): Promise<CommandOutcome> {
    const env = stack.agentEnvironment;
    const path = [bin, dirname(process.execPath), env['PATH'] ?? ''].join(':');
    return await runProgram('agent', args, { env: { ...env, PATH: path }, cwd: stack.home });
  }

  async function done(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await agent(...args);
    assert.equal(code, 0, stderr);
    return stdout;
  }

  it('has what its documentation and its commands refer to, and no tests', () => {
    const wanted = [
      ...['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'docs/systemd.md'],
      ...['python/pyproject.toml', 'python/outpost_sdk/__init__.py', 'examples/batch.ts'],
      ...['python/outpost_worker.py', 'systemd/agent@.service', 'systemd/user/agent@.service'],
      ...['systemd/hub.service', 'systemd/sysusers.d/outpost.conf', 'systemd/tmpfiles.d/outpost.conf'], // prettier-ignore
      ...Object.values(manifest.bin),
      ...Object.values(manifest.exports['.']).map((path) => path.replace('./', '')),
    ];
    assert.deepEqual(
      wanted.filter((path) => !files.includes(path)),
      [],
    );
    assert.deepEqual(
      files.filter((path) => /^(test|build|bench|chaos|scripts|node_modules|\.cache)\//.test(path)),
      [],
    );
  });

  it('has the commands, the units and the worker in place', async () => {
    const { outpost } = JSON.parse(await done('version', '--json')) as { outpost: string };
    assert.equal(outpost, manifest.version);
    const secret = join(stack.home, 'packed.secret');
    const { id, secret: text } = stack.client;
    await program('sh', ['-c', `umask 077 && printf %s ${text} > ${secret}`]);
    const flags = ['--hub-url', stack.hubUrl, '--client-id', id, '--client-secret-file', secret];
    const workers = ['--python', '/usr/bin/python3', '--python-interpreters', '1', '--javascript-threads', '1']; // prettier-ignore
    await done('configure', 'packed', ...flags, ...workers);
    const started = JSON.parse(await done('start', 'packed', '--json')) as { endpoint_id: string };
    const client = new Client({ hubUrl: stack.hubUrl, clientId: id, clientSecret: text });
    const executor = new Executor({ client, endpointId: started.endpoint_id });
    try {
      assert.equal(await executor.submit((a: number, b: number) => a + b, 40, 2), 42);
      const python = await client.registerPythonFunction('def f(x):\n    return [x, 3]\n');
      assert.deepEqual(await executor.submitToRegisteredFunction(python, [2]), [2, 3]);
    } finally {
      await executor.shutdown();
    }
    const unit = await done('enable-on-boot', 'packed', '--user', '--dry-run');
    assert.match(
      unit,
      new RegExp(`^ *ExecStart=\\S+ ${join(installed, manifest.bin['agent'] ?? '')} start`, 'm'),
    );
    await done('stop', 'packed');
  });
});
