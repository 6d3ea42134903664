/**
 * Tries to take the lock of a directory, says how that went, and holds it until its stdin ends.
 *
 *   node agent-lock-process.js DIRECTORY
 */
import { acquireLock } from '../../src/agent/agent-lock.ts';
import { systemClock } from '../../src/base/clock.ts';
import { errorCode, errorText } from '../../src/base/errors.ts';

const [, , directory = ''] = process.argv;

// All wait for the word, so that they try at the same time.
process.stdout.write('ready\n');
process.stdin.once('data', () => {
  acquireLock(directory, systemClock).then(
    () => process.stdout.write('won\n'),
    (error: unknown) => {
      process.stdout.write(`${errorCode(error) ?? errorText(error)}\n`);
      process.exit(0);
    },
  );
});
