/**
 * What `agent start` runs in the background: `agent-daemon.js NAME`. An entry of its own, because what reads a command line takes longer to
 * load than an agent.
 */
import { runDaemon } from './agent/daemon.ts';
import { runCommand } from './run-command.ts';

await runCommand({}, async () => await runDaemon(process.argv[2] ?? ''));
