/** Runs a command on a terminal of its own, as a person does: a pseudo-terminal made by Python, and answers typed in when asked. */
import { runProgram } from './stack.ts';
import type { CommandOutcome } from './stack.ts';

/** Types the next answer whenever the screen ends like a question; exits as the command does. */
const TERMINAL = `
import json, os, pty, re, sys
command, answers = json.loads(sys.stdin.read())
pid, fd = pty.fork()
if pid == 0:
    os.execv(command[0], command)
screen = answered = b""
while True:
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    screen += data
    text = re.sub(rb"\\x1b\\[[0-9;]*[A-Za-z]", b"", screen)
    if answers and text.endswith(b": ") and text != answered:
        answered = text
        os.write(fd, answers.pop(0).encode())
sys.stdout.buffer.write(screen)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

/** What was on the screen is in `stdout`. An answer ends with \\r, as the Enter key does. */
export async function runOnTerminal(
  command: readonly string[],
  answers: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<CommandOutcome> {
  return await runProgram('/usr/bin/python3', ['-c', TERMINAL], {
    env: { ...env, TERM: 'xterm' },
    input: JSON.stringify([command, answers]),
    limitMs: 60_000,
  });
}
