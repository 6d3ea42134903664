/** The runner of the suites (scripts/suites.mjs) is honest: what keeps a test from being run is a failure, however quietly it does so. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';
import { runProgram } from '../support/stack.ts';

/** Runs one file as a suite and prints what the runner makes of it. */
const PROGRAM = `
  const { runSuite } = await import(process.argv[1]);
  const suite = { name: 'trial', limitMs: 60_000, testTimeoutMs: 20_000 };
  const tally = await runSuite(suite, { environment: {}, specs: [process.argv[2]], mochaArgs: [] });
  process.stdout.write('\\n' + JSON.stringify(tally));
`;

interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly failures: readonly { readonly message: string }[];
}

describe('the runner of the suites', () => {
  let directory: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'outpost-trial-'));
  });
  after(() => {
    rmSync(directory, { recursive: true });
  });

  async function tallyOf(text: string): Promise<Tally> {
    const spec = join(directory, 'trial.test.mjs');
    writeFileSync(spec, text);
    const runner = join(packageRoot(), 'scripts/suites.mjs');
    const { code, stdout, stderr } = await runProgram(
      process.execPath,
      ['--input-type=module', '-e', PROGRAM, '--', runner, spec],
      { env: { PATH: process.env['PATH'], HOME: directory } },
    );
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Tally;
  }

  const fine = "it('is fine', () => {});";

  it('counts what passes', async () => {
    const { passed, failed } = await tallyOf(fine);
    assert.deepEqual([passed, failed], [1, 0]);
  });

  for (const [what, text, message] of [
    ['a hook that throws', `before(() => { throw new Error('no'); }); ${fine}`, /^no$/],
    [
      'a test that ends the process as if all were well',
      `${fine} it('leaves', () => process.exit(0)); it('is never run', () => {});`,
      /ended with code 0 before its last test during "leaves"/,
    ],
    ['a file that does so while it is read', 'process.exit(0);', /ended with code 0 before/],
    ['a process that is killed', `it('a', () => process.kill(process.pid, 'SIGKILL'));`, /SIGKILL/],
    ['a file that cannot be read', 'const x = ;', /ended with code 1/],
    [
      'a rejection that nobody handles',
      `it('a', () => { Promise.reject(new Error('floating')); });`,
      /floating/,
    ],
    // The text of a run that must fail on it: a test that is alone hides the others.
    ['a test that is the only one', `it.only('a', () => {});`, /ended with code 1/],
  ] as const) {
    it(`counts as a failure: ${what}`, async () => {
      const { failed, failures } = await tallyOf(text);
      assert.equal(failed, 1, JSON.stringify(failures));
      assert.match(failures[0]?.message ?? '', message);
    });
  }
});
