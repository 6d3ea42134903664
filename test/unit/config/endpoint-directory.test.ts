/** The directory of an endpoint: names, modes, and a registration that is never half written. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

import { ConfigError, ConflictError, UsageError } from '../../../src/base/errors.ts';
import {
  createEndpointDirectory,
  endpointDirectory,
  findEndpointDirectory,
  listEndpointDirectories,
  nameProblem,
  outpostHome,
  readRegistration,
  replaceFile,
  writeRegistration,
} from '../../../src/config/endpoint-directory.ts';
import { findPython } from '../../../src/config/python-interpreter.ts';

const ID = '0f0e0d0c-0000-4000-8000-000000000001';

describe('endpoint directories', () => {
  let home: string;

  beforeEach(async () => {
    home = join(await mkdtemp(join(tmpdir(), 'outpost-directory-')), 'home');
  });

  afterEach(async () => {
    await rm(join(home, '..'), { recursive: true });
  });

  it('lie in OUTPOST_HOME, which must be absolute, or in ~/.outpost', () => {
    assert.equal(outpostHome({ OUTPOST_HOME: '/x' }), '/x');
    assert.equal(outpostHome({ OUTPOST_HOME: '' }), join(homedir(), '.outpost'));
    assert.throws(() => outpostHome({ OUTPOST_HOME: 'x' }), ConfigError);
  });

  it('have names that are one plain word', () => {
    for (const name of ['default', 'gpu-1', 'ünï', 'a.b', 'x'.repeat(128)]) {
      assert.equal(nameProblem(name), undefined, name);
    }
    const refused = [
      '',
      'x'.repeat(129),
      '.hub',
      '..',
      '-x',
      'a b',
      'a/b',
      'a\\b',
      '"',
      "'",
      'a\nb',
      ID,
    ];
    for (const name of refused) {
      assert.throws(() => endpointDirectory('/h', name), UsageError, name);
    }
  });

  it('are for their owner only', async () => {
    const directory = await createEndpointDirectory(home, 'one');
    await replaceFile(directory.configPath, 'reserve: 1\n');
    assert.equal((await stat(home)).mode & 0o777, 0o700);
    assert.equal((await stat(directory.path)).mode & 0o777, 0o700);
    assert.equal((await stat(directory.configPath)).mode & 0o777, 0o600);
  });

  it('are not made twice', async () => {
    await createEndpointDirectory(home, 'one');
    await assert.rejects(createEndpointDirectory(home, 'one'), (error: unknown) => {
      return error instanceof ConflictError && error.exitCode === 73;
    });
  });

  it('are found by name and by endpoint id, and listed when they have a config.yaml', async () => {
    assert.deepEqual(await listEndpointDirectories(home), []);
    for (const name of ['two', 'one', 'empty']) {
      const directory = await createEndpointDirectory(home, name);
      if (name !== 'empty') {
        await writeFile(directory.configPath, '');
      }
    }
    await mkdir(join(home, '.hub'));
    await writeRegistration(endpointDirectory(home, 'two'), { endpointId: ID, leaseEpoch: 3 });
    const names = (await listEndpointDirectories(home)).map(({ name }) => name);
    assert.deepEqual(names, ['one', 'two']);
    assert.equal((await findEndpointDirectory(home, ID.toUpperCase())).name, 'two');
    assert.equal((await findEndpointDirectory(home, 'one')).name, 'one');
    for (const missing of ['empty', 'three', ID.replace('1', '2')]) {
      await assert.rejects(findEndpointDirectory(home, missing), ConflictError, missing);
    }
  });

  it('keep a registration as a whole file and leave no other behind', async () => {
    const directory = await createEndpointDirectory(home, 'one');
    assert.equal(readRegistration(directory), undefined);
    const writes = Array.from({ length: 20 }, async (_, leaseEpoch) => {
      await writeRegistration(directory, { endpointId: ID, leaseEpoch });
    });
    await Promise.all(writes);
    assert.equal(readRegistration(directory)?.endpointId, ID);
    assert.deepEqual(await readdir(directory.path), ['endpoint.json']);
    assert.equal((await stat(directory.registrationPath)).mode & 0o777, 0o600);
  });

  it('say so when the registration is damaged, rather than registering anew', async () => {
    const directory = await createEndpointDirectory(home, 'one');
    for (const text of ['', '{', '[]', '{"endpoint_id": 1}']) {
      await writeFile(directory.registrationPath, text);
      assert.throws(() => readRegistration(directory), ConfigError, text);
    }
    await writeFile(directory.registrationPath, JSON.stringify({ endpoint_id: ID }));
    assert.deepEqual(readRegistration(directory), { endpointId: ID, leaseEpoch: 0 });
  });

  it('find a real interpreter behind the shim of a version manager', async () => {
    const shims = join(home, 'shims');
    const bin = join(home, 'bin');
    await mkdir(shims, { recursive: true });
    await mkdir(bin);
    await writeFile(join(shims, 'python3'), '#!/bin/sh\n', { mode: 0o755 });
    const path = `${shims}:relative:${bin}`;
    assert.equal(findPython('python3', path), join(shims, 'python3'));
    await writeFile(join(bin, 'python3'), '\x7fELF', { mode: 0o755 });
    assert.equal(findPython('python3', path), join(bin, 'python3'));
    assert.equal(findPython('/opt/python', path), '/opt/python');
    assert.equal(findPython('python9', path), 'python9');
  });
});
