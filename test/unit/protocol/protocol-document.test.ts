/** docs/protocol.md names the test of each fact of the wire: each of them exists under that title. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { packageRoot } from '../../../src/base/package-root.ts';

const TEST = join(packageRoot(), 'test');
const document = readFileSync(join(packageRoot(), 'docs/protocol.md'), 'utf8');
const files = readdirSync(TEST, { recursive: true, encoding: 'utf8' });

/** Titles stand in TypeScript as text, in Python as names. */
function words(text: string): string {
  return text
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, ' ')
    .trim();
}

function sourcesOf(pattern: RegExp): string {
  const found = files.filter((file) => pattern.test(file));
  assert.ok(found.length > 0, `no file of test/ is ${String(pattern)}`);
  return words(found.map((file) => readFileSync(join(TEST, file), 'utf8')).join('\n'));
}

/** Cells of the last column of the table of facts. */
function testCells(): string[] {
  const facts = document.slice(document.indexOf('## Facts of the wire'));
  const rows = facts.split('\n').filter((line) => /^\| (?!fact |-)/.test(line));
  return rows.map((row) => row.split(' | ')[1]?.replace(/ *\|$/, '') ?? '');
}

describe('the facts in docs/protocol.md', () => {
  const cells = testCells();

  it('are a table', () => {
    assert.ok(cells.length > 20, `${cells.length} rows`);
  });

  for (const cell of cells) {
    it(`are held by ${cell}`, () => {
      let sources: string | undefined;
      for (const part of cell.split('; ')) {
        const [, file, title = part] = /^(`[\w/-]+`|interop(?: \(\w+\))?): (.+)$/.exec(part) ?? [];
        if (file !== undefined) {
          sources = file.startsWith('`')
            ? sourcesOf(new RegExp(`(^|/)${file.slice(1, -1)}\\.test\\.ts$`))
            : sourcesOf(/^interop\/.*\.(ts|py)$/);
        }
        const [, module] = /^all of `(\w+)`$/.exec(title) ?? [];
        if (module !== undefined) {
          assert.match(sourcesOf(new RegExp(`/${module}\\.py$`)), /\bdef test\b/);
        } else {
          const name = words(title);
          assert.ok(sources?.includes(` ${name} `) === true, `no test is titled "${title}"`);
        }
      }
    });
  }
});
