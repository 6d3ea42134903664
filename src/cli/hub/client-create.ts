/** `hub client create`: a new client. Its secret is printed or written once and stored only as a hash. */
import { systemClock } from '../../base/clock.ts';
import { UsageError } from '../../base/errors.ts';
import { ClientRegistry } from '../../hub/auth/client-registry.ts';
import { migrateDatabase } from '../../hub/db/database.ts';
import { canonicalUuid } from '../../protocol/messages.ts';
import { defineCommand } from '../command-line.ts';
import { handOutCredentials, plannedEnvFile, withWriteEnv } from './client-credentials.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

/** The command. */
export const clientCreate = defineCommand(
  (parser) =>
    withWriteEnv(withEnvFile(parser))
      .positional('name', {
        type: 'string',
        demandOption: true,
        describe: 'Name for people; unique',
      })
      .option('id', { type: 'string', requiresArg: true, describe: 'Client id, a UUID [random]' })
      .option('endpoint-only', {
        type: 'boolean',
        default: false,
        describe: 'May run endpoints and nothing else',
      }),
  async (argv) => {
    const id = argv.id === undefined ? undefined : canonicalUuid(argv.id);
    if (argv.id !== undefined && id === undefined) {
      throw new UsageError(`--id ${argv.id} is not a UUID; leave it out to get a random one`);
    }
    if (argv.name.trim() === '' || argv.name.length > 256) {
      throw new UsageError('the name of a client has 1 to 256 characters');
    }
    const file = plannedEnvFile(argv);
    const created = await withHubDatabase(argv.envFile, async (db) => {
      await migrateDatabase(db);
      return await new ClientRegistry(db, systemClock).create(argv.name, {
        endpointOnly: argv.endpointOnly,
        ...(id === undefined ? {} : { id }),
      });
    });
    handOutCredentials(created, file, argv.json);
    return 0;
  },
);
