/** Reading the log as `agent logs` does, with the writer at work. */
import assert from 'node:assert/strict';
import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { followLog } from '../../src/cli/agent/follow-log.ts';
import { formatLogLine, isWanted, tailLines } from '../../src/cli/agent/log-lines.ts';
import { RotatingFile } from '../../src/config/rotating-file.ts';
import { eventually } from '../support/eventually.ts';

describe('reading the log', () => {
  let directory: string;
  let path: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'outpost-log-reading-'));
    path = join(directory, 'agent.log');
  });

  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  function entry(index: number, level = 'info'): string {
    const time = new Date(1_700_000_000_000 + index * 1000).toISOString();
    return JSON.stringify({ level, time, msg: `ü${index}` });
  }

  const indexes = (lines: readonly string[]): number[] =>
    lines.map((line) => Number((JSON.parse(line) as { msg: string }).msg.slice(1)));

  const range = (from: number, to: number): number[] =>
    Array.from({ length: to - from }, (_, index) => from + index);

  it('goes back over files that were rotated away, in order and no further than asked', async () => {
    const file = new RotatingFile({ path, bytesMax: 500_000 });
    for (const index of range(0, 7_000)) {
      file.write(`${entry(index)}\n`);
    }
    file.close();
    const tail = await tailLines(path, 5_000);
    assert.deepEqual(indexes(tail?.lines ?? []), range(2_000, 7_000));
    assert.deepEqual(indexes((await tailLines(path, 3))?.lines ?? []), range(6_997, 7_000));
    assert.deepEqual((await tailLines(path, 0))?.lines, []);
    assert.equal(await tailLines(join(directory, 'none'), 3), undefined);
  });

  it('finds what is important, and what is recent, however far back', async () => {
    const lines = range(0, 20_000).map((index) =>
      entry(index, index % 1000 === 7 ? 'warn' : 'debug'),
    );
    await writeFile(`${path}.1`, `${lines.slice(0, 15_000).join('\n')}\nno entry\n`);
    await writeFile(path, `${lines.slice(15_000).join('\n')}\n{"half`);
    const warnings = await tailLines(path, 8, { level: 'warn' });
    assert.ok(warnings !== undefined);
    assert.equal(warnings.lines[2], 'no entry');
    assert.deepEqual(
      indexes(warnings.lines.filter((line) => line !== 'no entry')),
      [13_007, 14_007, 15_007, 16_007, 17_007, 18_007, 19_007],
    );
    const recent = await tailLines(path, Infinity, { sinceMs: 1_700_000_000_000 + 19_990_000 });
    assert.deepEqual(indexes(recent?.lines ?? []), range(19_990, 20_000));
    assert.equal(isWanted(entry(1, 'error'), { level: 'warn', sinceMs: Infinity }), false);
  });

  it('follows a log through rotations, without a gap and without repeating', async () => {
    const lines: string[] = [];
    const stop = new AbortController();
    await writeFile(path, `${entry(0)}\n${entry(1)}\n{"level":"info","time":"","msg":"ü`);
    const tail = await tailLines(path, 1);
    assert.deepEqual(indexes(tail?.lines ?? []), [1]);
    const following = followLog(path, tail?.endOffset ?? 0, stop.signal, (line) =>
      lines.push(line),
    );
    await appendFile(path, '2"}\n');
    const file = new RotatingFile({ path, bytesMax: 40_000 });
    for (const index of range(3, 1_500)) {
      file.write(`${entry(index)}\n`);
      if (index % 50 === 0) {
        // So that no more than the files that are kept is written between two looks.
        await eventually(() => {
          assert.equal(lines.length, index - 1);
        });
      }
    }
    file.close();
    await eventually(() => {
      assert.deepEqual(indexes(lines), range(2, 1_500));
    });
    // Cut off by hand.
    await writeFile(path, `${entry(1_500)}\n`);
    await eventually(() => {
      assert.deepEqual(indexes(lines.slice(-1)), [1_500]);
    });
    stop.abort();
    await following;
  });

  it('shows what tasks have said without letting it steer the terminal or pass for a line', () => {
    const reason = 'x\u001B]52;c;ZXZpbA==\u0007\n2026-01-01 INFO  all is well\ty';
    const shown = formatLogLine(JSON.stringify({ level: 'warn', msg: 'lost', reason }));
    assert.equal(
      shown,
      ' WARN  lost reason=x ]52;c;ZXZpbA== \n    2026-01-01 INFO  all is well\ty',
    );
    assert.equal(formatLogLine('no \u001B[2Jentry'), 'no  [2Jentry');
  });

  it('waits for a log that is not there yet', async () => {
    const lines: string[] = [];
    const stop = new AbortController();
    const following = followLog(path, 0, stop.signal, (line) => lines.push(line));
    await writeFile(path, 'first\n');
    await eventually(() => {
      assert.deepEqual(lines, ['first']);
    });
    stop.abort();
    await following;
  });
});
