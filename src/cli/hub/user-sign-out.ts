/** `hub user sign-out`: ends everything that hangs on a person's logins, for when a token or a machine of theirs got lost. */
import { PeopleRegistry } from '../../hub/auth/people.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';
import { knownPerson } from './known-person.ts';

/** The command. */
export const userSignOut = defineCommand(
  (parser) =>
    withEnvFile(parser).positional('user', {
      type: 'string',
      demandOption: true,
      describe: 'Id or username',
    }),
  async (argv) => {
    const person = await withHubDatabase(argv.envFile, async (db) => {
      const people = new PeopleRegistry(db);
      const found = await knownPerson(people, argv.user);
      await people.signOut(found.id);
      return found;
    });
    if (argv.json) {
      printJson({ identity_id: person.id, username: person.username });
    } else {
      printLine(
        `${person.username} is signed out everywhere, and their agents are cut off from the broker; tokens that a hub remembers end within 30 seconds.`,
      );
    }
    return 0;
  },
);
