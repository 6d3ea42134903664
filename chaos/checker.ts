/**
 * The checker: reads the history of a run from its directory, prints the verdict as one JSON document, and exits with 1 when it
 * found what must never be.
 *
 *   node build/chaos/checker.js DIRECTORY
 */
import { readHistory } from './history.ts';
import { isClean, judge } from './verdict.ts';

const [directory] = process.argv.slice(2);
if (directory === undefined) {
  process.stderr.write('usage: checker.js DIRECTORY\n');
  process.exit(64);
}
const verdict = judge(readHistory(directory));
process.stdout.write(`${JSON.stringify(verdict)}\n`);
process.exitCode = isClean(verdict) ? 0 : 1;
