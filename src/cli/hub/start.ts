/** `hub start`: the hub in the foreground, on a broker and a database that run already. */
import { systemClock } from '../../base/clock.ts';
import { ReleaseStack } from '../../base/release-stack.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import { hubEnvironment, readHubStartConfig } from '../../config/hub-config.ts';
import { HUB_VARIABLES } from '../../config/hub-variables.ts';
import { openLog } from '../../config/logging.ts';
import { serviceNotification } from '../../config/service-environment.ts';
import { Hub } from '../../hub/hub.ts';
import { ServiceReporter } from '../../transport/systemd/service-reporter.ts';
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
      let state = 'starting';
      const service = await ServiceReporter.open({
        notification: serviceNotification(processEnvironment()),
        describe: () => state,
        // Of an outage of broker or database the hub says so itself; starting it again would not end one.
        isProgressing: () => true,
        clock: systemClock,
        logger: logger.child({ component: 'service' }),
      });
      stack.push('service manager', () => {
        service.close();
      });
      const hub = new Hub(hubSettings(config, config.services), { clock: systemClock, logger });
      stack.push('hub', async () => {
        await hub.stop();
      });
      const { url } = await hub.start();
      state = `serving ${url}`;
      service.ready();
      printNote(`hub is ready at ${url}`);
      await signals.requested;
      state = 'stopping';
      service.stopping();
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
