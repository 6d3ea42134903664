/**
 * Tells whether the terminal on which an agent was started in the foreground is gone. Its process group then gets a SIGHUP, and there is
 * nowhere left to write to; an agent that was started by a service manager or in the background has no terminal to lose.
 */
import { closeSync, openSync } from 'node:fs';

/** To be called at the start; the returned function tells whether the terminal has gone since. */
export function watchTerminal(): () => boolean {
  const hadTerminal = (process.stdout.isTTY || process.stdin.isTTY) && canOpenTerminal();
  return () => {
    if (!hadTerminal || canOpenTerminal()) {
      return false;
    }
    letGoOfTerminal();
    return true;
  };
}

function canOpenTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r+'));
    return true;
  } catch {
    // ENXIO: no terminal controls this process, or no longer.
    return false;
  }
}

/**
 * What is logged during the shutdown goes nowhere, instead of failing; and Node, which gives a terminal back in the state in which it was
 * found, would abort for one that is gone.
 */
function letGoOfTerminal(): void {
  for (const descriptor of [0, 1, 2]) {
    closeSync(descriptor);
    // The lowest that is free, which is the one just closed.
    openSync('/dev/null', descriptor === 0 ? 'r' : 'w');
  }
}
