/** The log: bounded in size, and without secrets. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { levelControl } from '../../../src/config/log-level-control.ts';
import { openLog } from '../../../src/config/logging.ts';
import { RotatingFile } from '../../../src/config/rotating-file.ts';
import { Secret } from '../../../src/config/secret.ts';
import { eventually } from '../../support/eventually.ts';

const ROTATING_FILE = new URL('../../../src/config/rotating-file.js', import.meta.url).href;
const LOGGING = new URL('../../../src/config/logging.js', import.meta.url).href;

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
    const file = new RotatingFile({ path, bytesMax: 3000, olderCountMax: 2 });
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

  async function bytesOfAll(): Promise<number> {
    const names = await readdir(directory);
    const sizes = await Promise.all(
      names.map(async (name) => (await stat(join(directory, name))).size),
    );
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  it('never holds more than its budget, whatever is logged and however the budget shrinks', async () => {
    const path = join(directory, 'agent.log');
    const file = new RotatingFile({ path, bytesMax: 100_000 });
    for (let index = 0; index < 3_000; index += 1) {
      file.write(`${String(index).padStart(index % 700, '0')}\n`);
      if (index % 100 === 0) {
        assert.ok((await bytesOfAll()) <= 100_000);
      }
    }
    assert.ok((await bytesOfAll()) > 70_000);
    file.setBytesMax(20_000);
    assert.ok((await bytesOfAll()) <= 20_000);
    file.close();
    // What a run with a larger budget, or with more files, has left is brought down at once.
    await writeFile(`${path}.1`, 'x'.repeat(50_000));
    await writeFile(`${path}.9`, 'old');
    new RotatingFile({ path, bytesMax: 20_000 }).close();
    assert.ok((await bytesOfAll()) <= 20_000);
  });

  it('cuts a line that would push out all others, and says so as an entry', async () => {
    const path = join(directory, 'agent.log');
    const file = new RotatingFile({ path, bytesMax: 1024 * 1024 });
    file.write('before\n');
    file.write(`${'"'.repeat(3_000_000)}\n`);
    file.close();
    const [before, cut, ...rest] = (await readFile(path, 'utf8')).trimEnd().split('\n');
    assert.equal(before, 'before');
    assert.equal(rest.length, 0);
    const entry = JSON.parse(cut ?? '') as { bytes: number; level: string };
    assert.deepEqual([entry.bytes, entry.level], [3_000_001, 'warn']);
  });

  it('changes its level while it is written, also for components that have their own logger', async () => {
    const path = join(directory, 'agent.log');
    const { logger, control, close } = await openLog({
      level: 'info',
      destination: { kind: 'file', path },
    });
    const child = logger.child({ component: 'x' }).child({ session: 'y' });
    child.debug({}, 'one');
    assert.equal(control.setLevel('debug', 60_000).level, 'debug');
    child.debug({}, 'two');
    control.configure({ level: 'warn' });
    assert.deepEqual(control.levels, { level: 'warn', configured: 'warn', until: null });
    child.info({}, 'three');
    control.setLevel('trace');
    child.trace({}, 'four');
    assert.deepEqual(control.setLevel(undefined), {
      level: 'warn',
      configured: 'warn',
      until: null,
    });
    child.info({}, 'five');
    close();
    const messages = (await readFile(path, 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { msg: string }).msg);
    assert.deepEqual(messages, ['two', 'four']);
  });

  it('goes back to the level of the settings when the time is over', async () => {
    const applied: string[] = [];
    const levels = levelControl('info', (level) => applied.push(level));
    const until = levels.setLevel('debug', 20).until;
    assert.ok(until !== null);
    await eventually(() => {
      assert.deepEqual(applied, ['debug', 'info']);
    });
    assert.equal(levels.levels.until, null);
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

  it('goes on in the same file when it cannot be rotated, within bounds and without losing those before', async () => {
    const path = join(directory, 'agent.log');
    const file = new RotatingFile({ path, bytesMax: 5000 });
    let index = 0;
    const write = (count: number): void => {
      for (const until = index + count; index < until; index += 1) {
        file.write(`${JSON.stringify({ index, padding: 'x'.repeat(70) })}\n`);
      }
    };
    write(60);
    const before = await readFile(`${path}.3`, 'utf8');
    // No new file can be made, whoever asks: its name is taken by a directory.
    await mkdir(join(`${path}.new`, 'in-the-way'), { recursive: true });
    write(5);
    assert.equal(await readFile(`${path}.3`, 'utf8'), before);
    assert.match(
      await readFile(path, 'utf8'),
      /the log cannot be rotated, and goes on[^]*"index":64/,
    );
    write(100);
    assert.equal(await readFile(`${path}.3`, 'utf8'), before);
    assert.ok((await stat(path)).size <= 2000);
    assert.match(
      await readFile(path, 'utf8'),
      /^.*cannot be rotated, and has begun anew[^]*"index":164/,
    );
    assert.equal(file.droppedCount, 0);
    await rm(`${path}.new`, { recursive: true });
    write(60);
    file.close();
    assert.ok((await bytesOfAll()) <= 5000);
    assert.match(await readFile(path, 'utf8'), /"index":224/);
  });

  it('says how many lines it could not write, as soon as it can write again', async () => {
    const path = join(directory, 'agent.log');
    // A limit for the size of files stands for a full disk: the third line is written in part, the fourth not at all.
    const script = `
      import { RotatingFile } from ${JSON.stringify(ROTATING_FILE)};
      import { truncateSync } from 'node:fs';
      process.on('SIGXFSZ', () => undefined);
      const file = new RotatingFile({ path: ${JSON.stringify(path)} });
      for (const name of ['one', 'two', 'three', 'four']) {
        file.write(name.repeat(150) + '\\n');
      }
      truncateSync(${JSON.stringify(path)}, 451);
      file.write('five\\n');`;
    const limited = 'ulimit -f 1; exec "$0" --input-type=module -e "$1"';
    execFileSync('bash', ['-c', limited, process.execPath, script]);
    const lines = (await readFile(path, 'utf8')).trimEnd().split('\n');
    assert.equal(lines[0], 'one'.repeat(150));
    assert.match(lines.at(-2) ?? '', /"droppedCount":2,"msg":"lines could not be written/);
    assert.equal(lines.at(-1), 'five');
  });

  it('does not end what runs when stdout is full', () => {
    const script = `
      import { openLog } from ${JSON.stringify(LOGGING)};
      const { logger } = await openLog({ level: 'info', destination: { kind: 'stdout' } });
      for (let index = 0; index < 10000; index += 1) {
        logger.info({ padding: 'x'.repeat(1000) }, 'full');
      }
      process.stderr.write(String(process.memoryUsage.rss() < 500e6));`;
    const full = 'exec "$0" --input-type=module -e "$1" 2>&1 >/dev/full';
    const said = execFileSync('bash', ['-c', full, process.execPath, script], { encoding: 'utf8' });
    assert.equal(said, 'true');
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
