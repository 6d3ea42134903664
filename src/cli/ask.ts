/**
 * Questions to the person at the terminal. Asked on stderr, so that stdout stays what scripts read, and only where somebody can
 * answer: a command without a terminal never waits for input.
 */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';

import { ComputeError } from '../base/errors.ts';

/** The person pressed ^C instead of answering. */
class InterruptedError extends ComputeError {
  constructor() {
    super('INTERRUPTED', 'Interrupted; nothing was written.', 130);
  }
}

/** Whether there is somebody to answer. */
export function canAsk(json: boolean): boolean {
  return !json && process.stdin.isTTY && process.stderr.isTTY;
}

/**
 * Asks, and returns the answer without white space around it; empty when there was none (^D).
 *
 * @throws ComputeError INTERRUPTED on ^C.
 */
export async function ask(question: string, { isSecret = false } = {}): Promise<string> {
  // The terminal shows nothing by itself from here on; readline shows what is typed, unless it does not know where.
  const nowhere = new Writable({
    write: (_chunk, _encoding, done) => {
      done();
    },
  });
  const lines = createInterface({
    input: process.stdin,
    output: isSecret ? nowhere : process.stderr,
    terminal: true,
    historySize: 0,
  });
  try {
    return await new Promise<string>((resolve, reject) => {
      lines.once('line', (line) => {
        resolve(line.trim());
      });
      lines.once('SIGINT', () => {
        process.stderr.write('\n');
        reject(new InterruptedError());
      });
      lines.once('close', () => {
        resolve('');
      });
      // Asked only now: what somebody types sooner would be shown.
      if (isSecret) {
        process.stderr.write(question);
      } else {
        lines.setPrompt(question);
        lines.prompt();
      }
    });
  } finally {
    lines.close();
    if (isSecret) {
      process.stderr.write('\n');
    }
  }
}
