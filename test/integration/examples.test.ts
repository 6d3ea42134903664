/** The programs under examples/, each run as a person would run it, against a real hub and agent. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Stack, runProgram } from '../support/stack.ts';

const BUILT = fileURLToPath(new URL('../../examples/', import.meta.url));

/** What each program prints, line by line. */
const EXPECTED: Readonly<Record<string, readonly (string | RegExp)[]>> = {
  'register-run-result': ['Hello Bob Smith', 'RangeError: too far'],
  batch: ['0', '1', '4', '9', '16'],
  'executor-map': [
    '42',
    '[ 1, 4, 9, 16 ]',
    'rejected 0',
    'fulfilled 1',
    'fulfilled 2',
    'fulfilled 3',
    'AB',
  ],
  'python-from-typescript': ['{ mean: 5, stdev: 2.14 }', /^StatisticsError: .+/],
  shell: ['3 out err'],
  module: ['2 40'],
  sharing: ["[ 'Lab 4' ]", 'true', '0'],
  search: [/^fibonacci: The n-th number of Fibonacci, slowly\. \(by .+\)$/, '55'],
};

describe('examples', function () {
  this.timeout(240_000);
  let stack: Stack;

  before(async () => {
    stack = await Stack.start({ agent: { 'javascript-threads': 1, 'python-interpreters': 1 } });
  });

  after(async () => {
    await stack.stop();
  });

  it('are all run here', () => {
    const files = readdirSync(BUILT).filter((name) => name.endsWith('.js'));
    assert.deepEqual(
      files.map((name) => name.replace(/\.js$/, '')).sort(),
      Object.keys(EXPECTED).sort(),
    );
  });

  for (const [name, lines] of Object.entries(EXPECTED)) {
    it(`${name}.ts prints what it promises`, async () => {
      const program = join(BUILT, `${name}.js`);
      assert.ok(existsSync(program), `${program} is missing: npm run build:test`);
      const argument =
        name === 'sharing' ? (await stack.createClient('member')).id : stack.endpointId;
      const { code, stdout, stderr } = await runProgram(process.execPath, [program, argument], {
        env: {
          PATH: process.env['PATH'],
          HOME: stack.home,
          OUTPOST_HUB_URL: stack.hubUrl,
          OUTPOST_CLIENT_ID: stack.client.id,
          OUTPOST_CLIENT_SECRET: stack.client.secret,
        },
        limitMs: 60_000,
      });
      assert.equal(code, 0, stderr + stdout);
      // Whether the first result is there at once is a matter of luck.
      const printed = stdout
        .trimEnd()
        .split('\n')
        .filter((line) => !line.startsWith('not yet'));
      assert.equal(printed.length, lines.length, stdout);
      for (const [index, line] of lines.entries()) {
        if (typeof line === 'string') {
          assert.equal(printed[index], line);
        } else {
          assert.match(printed[index] ?? '', line);
        }
      }
    });
  }
});
