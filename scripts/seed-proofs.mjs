/** Whether the tests that docs/seeds.md names as proofs ran and passed: a title that exists may still be of a test that nobody runs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { ROOT } from './bootstrap.mjs';

/** Titles of cases in Python have lost their punctuation. */
function words(text) {
  return text
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, ' ')
    .trim();
}

/** The proofs as `{ id, file, title }`; files without `test/` and `.test.ts`. */
function proofs() {
  const rows = readFileSync(join(ROOT, 'docs/seeds.md'), 'utf8').matchAll(
    /^\| (S\d+) *\|.*\| test *\| (.+?) *\|$/gm,
  );
  return [...rows].flatMap(([, id, cell]) => {
    let file;
    return cell.split('; ').map((part) => {
      const [, named = file, title = part] = /^`([\w/-]+)`: (.+)$/.exec(part) ?? [];
      file = named;
      return { id, file, title };
    });
  });
}

/** Suites that hold proofs. */
export function suitesOfProofs() {
  return new Set(proofs().map(({ file }) => file.split('/', 1)[0]));
}

/** Sentences about the proofs that are not among the tests that passed, each `file: title`. */
export function missingProofs(passed) {
  const done = new Set(passed.map(({ file, title }) => `${file}: ${words(title)}`));
  return proofs()
    .filter(({ file, title }) => !done.has(`${file}: ${words(title)}`))
    .map(({ id, file, title }) => `${id}: test/${file}.test.ts "${title}" did not run and pass`);
}
