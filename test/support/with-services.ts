/**
 * Runs a command with RabbitMQ and PostgreSQL at hand, and passes on how it ended:
 *
 *   node build/test/support/with-services.js npx mocha build/test/integration/hub.test.js
 *
 * The command is a process group of its own, so that nothing it started stays behind.
 */
import { spawn } from 'node:child_process';

import { errorCode } from '../../src/base/errors.ts';
import { startServices } from './services.ts';

const [command, ...args] = process.argv.slice(2);
if (command === undefined) {
  process.stderr.write('usage: with-services.js COMMAND [ARGUMENT…]\n');
  process.exit(64);
}

const services = await startServices({
  onExit: (which, reason) => {
    process.stderr.write(`with-services: the ${which} ended by itself: ${reason}\n`);
  },
});
const child = spawn(command, args, {
  stdio: 'inherit',
  detached: true,
  env: { ...process.env, ...services.environment },
});

function signalGroup(signal: NodeJS.Signals): void {
  if (child.pid === undefined) {
    return;
  }
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    if (errorCode(error) !== 'ESRCH') {
      throw error;
    }
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    signalGroup(signal);
  });
}

const exitCode = await new Promise<number>((resolve) => {
  child.once('error', (error) => {
    process.stderr.write(`with-services: ${command}: ${error.message}\n`);
    resolve(127);
  });
  child.once('exit', (code, signal) => {
    if (signal !== null) {
      process.stderr.write(`with-services: ${command} was ended by ${signal}\n`);
    }
    resolve(code ?? 1);
  });
});
signalGroup('SIGKILL');
await services.stop();
process.exitCode = exitCode;
