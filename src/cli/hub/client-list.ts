/** `hub client list`. */
import { systemClock } from '../../base/clock.ts';
import { ClientRegistry } from '../../hub/auth/client-registry.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printTable } from '../output.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

/** The command. */
export const clientList = defineCommand(
  (parser) => withEnvFile(parser),
  async (argv) => {
    const clients = await withHubDatabase(
      argv.envFile,
      async (db) => await new ClientRegistry(db, systemClock).list(),
    );
    if (argv.json) {
      printJson({
        clients: clients.map((client) => ({
          client_id: client.id,
          name: client.name,
          endpoint_only: client.endpointOnly,
          created_at: client.createdAt.toISOString(),
        })),
      });
      return 0;
    }
    printTable(clients, [
      { title: 'NAME', value: (client) => client.name },
      { title: 'CLIENT ID', value: (client) => client.id },
      { title: 'MAY', value: (client) => (client.endpointOnly ? 'run endpoints' : 'everything') },
      { title: 'CREATED', value: (client) => client.createdAt.toISOString() },
    ]);
    return 0;
  },
);
