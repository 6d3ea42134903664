/** `hub user disable`: the person is shut out within half a minute, wherever they are signed in. */
import { PeopleRegistry } from '../../hub/auth/people.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';
import { knownPerson } from './known-person.ts';

/** The command. */
export const userDisable = defineCommand(
  (parser) =>
    withEnvFile(parser)
      .positional('user', { type: 'string', demandOption: true, describe: 'Id or username' })
      .option('undo', { type: 'boolean', default: false, describe: 'Let the person in again' }),
  async (argv) => {
    const person = await withHubDatabase(argv.envFile, async (db) => {
      const people = new PeopleRegistry(db);
      const found = await knownPerson(people, argv.user);
      await people.setDisabled(found.id, !argv.undo);
      return found;
    });
    if (argv.json) {
      printJson({ identity_id: person.id, username: person.username, disabled: !argv.undo });
    } else {
      printLine(
        argv.undo
          ? `${person.username} may sign in again.`
          : `${person.username} is shut out; tokens that a hub remembers end within 30 seconds.`,
      );
    }
    return 0;
  },
);
