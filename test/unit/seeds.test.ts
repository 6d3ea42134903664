/** docs/seeds.md has a row for every promise of the two documents, and each names proofs that exist. That they ran, `npm test` checks. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';

const PROMISES = 66;
const TEST = join(packageRoot(), 'test');

interface Row {
  readonly id: string;
  readonly kind: string;
  readonly proof: string;
}

function rows(): Row[] {
  const text = readFileSync(join(packageRoot(), 'docs/seeds.md'), 'utf8');
  return text
    .split('\n')
    .filter((line) => /^\| S\d/.test(line))
    .map((line) => {
      const [, id = '', , kind = '', proof = ''] = line.split(' | ').join('|').split('|');
      return { id: id.trim(), kind: kind.trim(), proof: proof.trim() };
    });
}

/** Titles stand in TypeScript as text, in Python as names. */
function words(text: string): string {
  return text
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, ' ')
    .trim();
}

/** The words of a test file; of one of the interop suite, with those of the cases that it runs. */
function wordsOf(file: string): string {
  const path = join(TEST, `${file}.test.ts`);
  assert.ok(existsSync(path), `there is no test/${file}.test.ts`);
  const sources = [readFileSync(path, 'utf8')];
  if (file.startsWith('interop/')) {
    const cases = join(TEST, 'interop/python');
    const names = readdirSync(cases).filter((name) => name.endsWith('.py'));
    sources.push(...names.map((name) => readFileSync(join(cases, name), 'utf8')));
  }
  return ` ${words(sources.join('\n'))} `;
}

describe('the promises in docs/seeds.md', () => {
  const all = rows();

  it('are all there', () => {
    assert.deepEqual(
      all.map(({ id }) => id),
      Array.from({ length: PROMISES }, (_, index) => `S${index + 1}`),
    );
  });

  for (const { id, kind, proof } of all) {
    it(`${id} has its proof`, () => {
      switch (kind) {
        case 'test': {
          let file = '';
          for (const part of proof.split('; ')) {
            const [, named = file, title = part] = /^`([\w/-]+)`: (.+)$/.exec(part) ?? [];
            file = named;
            assert.ok(file !== '', `${part}: of which file?`);
            assert.ok(
              wordsOf(file).includes(` ${words(title)} `),
              `test/${file}.test.ts has no test titled "${title}"`,
            );
          }
          break;
        }
        case 'documented':
          assert.ok(existsSync(join(packageRoot(), proof)), `there is no ${proof}`);
          break;
        case 'partial':
          assert.ok(proof.length > 20, 'what is missing, and why?');
          break;
        default:
          assert.fail(`${kind} is no kind of proof`);
      }
    });
  }
});
