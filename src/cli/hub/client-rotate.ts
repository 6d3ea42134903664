/** `hub client rotate`: a new secret for a client that stays who it is. The old one is refused from now on, and its tokens and result streams end. */
import { systemClock } from '../../base/clock.ts';
import { ConflictError } from '../../base/errors.ts';
import { ClientRegistry } from '../../hub/auth/client-registry.ts';
import { canonicalUuid } from '../../protocol/messages.ts';
import { defineCommand } from '../command-line.ts';
import { printNote } from '../output.ts';
import { handOutCredentials, plannedEnvFile, withWriteEnv } from './client-credentials.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

/** The command. */
export const clientRotate = defineCommand(
  (parser) =>
    withWriteEnv(withEnvFile(parser)).positional('client', {
      type: 'string',
      demandOption: true,
      describe: 'Id or name of the client',
    }),
  async (argv) => {
    const file = plannedEnvFile(argv);
    const wanted = canonicalUuid(argv.client) ?? argv.client;
    const renewed = await withHubDatabase(
      argv.envFile,
      async (db) => await new ClientRegistry(db, systemClock).renewSecret(wanted),
    );
    if (renewed === undefined) {
      throw new ConflictError(
        'PRECONDITION_FAILED',
        `there is no client ${argv.client}; see \`hub client list\``,
      );
    }
    handOutCredentials(renewed, file, argv.json);
    if (!argv.json) {
      printNote(
        'The old secret is refused from now on, and programs that stream results sign in again. Agents go on with what they hold at the broker, and need the new secret in their .env at their next sign-in.',
      );
    }
    return 0;
  },
);
