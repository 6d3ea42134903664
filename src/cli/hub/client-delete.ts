/** `hub client delete`. */
import { systemClock } from '../../base/clock.ts';
import { ConflictError } from '../../base/errors.ts';
import { ClientRegistry } from '../../hub/auth/client-registry.ts';
import { canonicalUuid } from '../../protocol/messages.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

/** The command. */
export const clientDelete = defineCommand(
  (parser) =>
    withEnvFile(parser).positional('client', {
      type: 'string',
      demandOption: true,
      describe: 'Id or name of the client',
    }),
  async (argv) => {
    const wanted = canonicalUuid(argv.client) ?? argv.client;
    const deleted = await withHubDatabase(
      argv.envFile,
      async (db) => await new ClientRegistry(db, systemClock).delete(wanted),
    );
    if (deleted === undefined) {
      throw new ConflictError(
        'PRECONDITION_FAILED',
        `there is no client ${argv.client}; see \`hub client list\``,
      );
    }
    if (argv.json) {
      printJson({ client_id: deleted.id, name: deleted.name, deleted: true });
    } else {
      printLine(`deleted client ${deleted.name} (${deleted.id})`);
    }
    return 0;
  },
);
