/** `hub start`: the hub in the foreground, on a broker and a database that run already. */
import { systemClock } from '../../base/clock.ts';
import { ReleaseStack } from '../../base/release-stack.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import { HUB_VARIABLES, hubEnvironment, readHubStartConfig } from '../../config/hub-config.ts';
import { openLog } from '../../config/logging.ts';
import { Hub } from '../../hub/hub.ts';
import { defineCommand } from '../command-line.ts';
import { printNote } from '../output.ts';
import { hubSettings, withEnvFile } from './hub-environment.ts';
import { StopSignals } from './stop-signals.ts';

/** The command. */
export const start = defineCommand(
  (parser) => withEnvFile(parser).epilogue(variablesText()),
  async (argv) => {
    const config = readHubStartConfig(await hubEnvironment(processEnvironment(), argv.envFile));
    const stack = new ReleaseStack();
    const signals = new StopSignals(() => undefined);
    stack.push('signal listeners', () => {
      signals.dispose();
    });
    try {
      const { logger, close } = await openLog({
        level: config.logLevel,
        destination: { kind: process.stdout.isTTY && !argv.json ? 'terminal' : 'stdout' },
      });
      stack.push('log', close);
      const hub = new Hub(hubSettings(config, config.services), { clock: systemClock, logger });
      stack.push('hub', async () => {
        await hub.stop();
      });
      const { url } = await hub.start();
      printNote(`hub is ready at ${url}`);
      await signals.requested;
      logger.info({}, 'stopping');
    } finally {
      await stack.release();
    }
    return 0;
  },
);

function variablesText(): string {
  const lines = Object.values(HUB_VARIABLES).map(
    (variable) =>
      `  ${variable.name}\n      ${variable.summary}${'defaultText' in variable ? ` [${variable.defaultText}]` : ''}`,
  );
  return ['Settings, from the environment or the file:', ...lines].join('\n');
}
