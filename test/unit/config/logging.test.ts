/** The log: bounded in size, and without secrets. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { openLog } from '../../../src/config/logging.ts';
import { RotatingFile } from '../../../src/config/rotating-file.ts';
import { Secret } from '../../../src/config/secret.ts';

describe('the log', () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'outpost-log-'));
  });

  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  it('keeps a bounded number of bounded files, the newest lines in the first', async () => {
    const path = join(directory, 'agent.log');
    const file = new RotatingFile({ path, bytesMax: 1000, olderCountMax: 2 });
    for (let index = 0; index < 100; index += 1) {
      file.write(`${String(index).padStart(99, '0')}\n`);
    }
    file.close();
    assert.deepEqual((await readdir(directory)).sort(), [
      'agent.log',
      'agent.log.1',
      'agent.log.2',
    ]);
    for (const name of await readdir(directory)) {
      assert.ok((await stat(join(directory, name))).size <= 1000);
    }
    assert.match(await readFile(path, 'utf8'), /0099\n$/);
  });

  it('goes on in the file of the run before, with mode 0600', async () => {
    const path = join(directory, 'agent.log');
    for (const line of ['one\n', 'two\n']) {
      const file = new RotatingFile({ path });
      file.write(line);
      file.close();
    }
    assert.equal(await readFile(path, 'utf8'), 'one\ntwo\n');
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  });

  it('drops lines that cannot be written instead of throwing', () => {
    const file = new RotatingFile({ path: join(directory, 'agent.log') });
    file.close();
    file.write('lost\n');
    assert.equal(file.droppedCount, 1);
  });

  it('holds no secret, in fields by name and in texts by form', async () => {
    const path = join(directory, 'agent.log');
    const { logger, close } = await openLog({ level: 'info', destination: { kind: 'file', path } });
    logger.info(
      {
        clientSecret: 'hunter2',
        nested: { password: 'hunter2', deeper: { token: 'hunter2' } },
        secret: new Secret('hunter2'),
        held: { any: new Secret('hunter2') },
        err: new Error('dialling amqp://user:hunter2@host:5672/ failed'),
      },
      'connecting',
    );
    logger.child({ component: 'x' }).debug({}, 'below the level');
    close();
    const text = await readFile(path, 'utf8');
    assert.doesNotMatch(text, /hunter2/);
    const [line, ...rest] = text.trimEnd().split('\n');
    assert.equal(rest.length, 0);
    const entry = JSON.parse(line ?? '') as Record<string, unknown>;
    assert.equal(entry['level'], 'info');
    assert.equal(entry['msg'], 'connecting');
  });
});
