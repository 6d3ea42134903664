/**
 * A process that runs one command line of `agent` or `hub` after the other as a process of its own would, for tests of very many of them:
 * what is loaded stays loaded, which makes each ten times cheaper. Its stdin stays open and says nothing.
 *
 * The parent sends {@link CommandLine} and gets a {@link CommandOutcome} for each. Not for commands that go on in the background.
 */
import { pathToFileURL } from 'node:url';

import type { CommandOutcome } from './stack.ts';

/** What to run, and the environment beside that of this process. */
export interface CommandLine {
  /** Path of the built program. */
  readonly program: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

let runCount = 0;
let output = { stdout: '', stderr: '' };
let exitCode: number | null = null;

for (const name of ['stdout', 'stderr'] as const) {
  const stream = process[name];
  stream.setMaxListeners(0);
  stream.write = (chunk: unknown, ...rest: unknown[]): boolean => {
    output[name] += String(chunk);
    const callback = rest.at(-1);
    if (typeof callback === 'function') {
      setImmediate(callback as () => void);
    }
    return true;
  };
}

process.exit = ((code?: number) => {
  exitCode = code ?? 0;
}) as typeof process.exit;

async function run({ program, args, environment }: CommandLine): Promise<CommandOutcome> {
  output = { stdout: '', stderr: '' };
  exitCode = null;
  runCount += 1;
  process.argv = [process.execPath, program, ...args];
  Object.assign(process.env, environment);
  try {
    // A program runs when it is loaded; under another address it is loaded again, and what it imports is not.
    await import(`${pathToFileURL(program).href}?run=${runCount}`);
  } finally {
    for (const name of Object.keys(environment)) {
      Reflect.deleteProperty(process.env, name);
    }
    process.exitCode = 0;
  }
  return { code: exitCode, ...output };
}

process.on('message', (line) => {
  void run(line as CommandLine).then(
    (outcome) => process.send?.(outcome),
    (error: unknown) =>
      process.send?.({ code: null, stdout: output.stdout, stderr: String(error) }),
  );
});
