/** A process that starts private servers in the directory it is given, says so on standard output, and waits to be killed. */
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { startPrivateServers } from '../../src/hub/dev/private-servers.ts';

const servers = await startPrivateServers({
  dataDir: process.argv[2] ?? '',
  clock: systemClock,
  logger: silentLogger,
});
process.stdout.write(`${JSON.stringify({ pids: servers.pids })}\n`);
setInterval(() => undefined, 60_000);
