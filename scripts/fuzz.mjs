/**
 * The randomised tests with more examples and another seed than `npm test` gives them:
 *
 *   npm run fuzz                                   a seed of its own, 500 examples a property
 *   npm run fuzz -- --seed 123 --examples 5000     what somebody else saw, or a night's worth
 *
 * Both reach the tests as FUZZ_SEED and FUZZ_EXAMPLES (test/support/fuzz.ts, python/tests/test_fuzz.py). What fails here gets a plain
 * test with the input that it found.
 */
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT } from './bootstrap.mjs';

function wholeNumber(name, text) {
  if (!/^\d{1,9}$/.test(text)) {
    console.error(`--${name} takes a whole number below 10^9, not ${text}`);
    process.exit(64);
  }
  return text;
}

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(randomInt(1_000_000_000)) },
    examples: { type: 'string', default: '500' },
  },
});
const seed = wholeNumber('seed', values.seed);
const examples = wholeNumber('examples', values.examples);
const files = readdirSync(join(ROOT, 'test'), { recursive: true })
  .filter((file) => /(?:^|[/-])fuzz[^/]*\.test\.ts$/.test(file))
  .map((file) => `test/${file}`);

console.log(`npm run fuzz -- --seed ${seed} --examples ${examples}`);
const child = spawn(process.execPath, ['scripts/test.mjs', 'python', ...files], {
  cwd: ROOT,
  stdio: 'inherit',
  env: { ...process.env, FUZZ_SEED: seed, FUZZ_EXAMPLES: examples },
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => child.kill(signal));
}
child.once('exit', (code) => {
  console.log(`npm run fuzz -- --seed ${seed} --examples ${examples}`);
  process.exitCode = code ?? 1;
});
