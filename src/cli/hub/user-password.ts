/** `hub user password`: a new password. Whoever had the old one, or tokens got with it, is signed out. */
import { PeopleRegistry } from '../../hub/auth/people.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';
import { knownPerson } from './known-person.ts';
import { PASSWORD_FILE, newPassword } from './new-password.ts';

/** The command. */
export const userPassword = defineCommand(
  (parser) =>
    withEnvFile(parser)
      .positional('user', { type: 'string', demandOption: true, describe: 'Id or username' })
      .option('password-file', PASSWORD_FILE),
  async (argv) => {
    const person = await withHubDatabase(argv.envFile, async (db) => {
      const people = new PeopleRegistry(db);
      const found = await knownPerson(people, argv.user);
      await people.setPassword(found, await newPassword(argv.passwordFile));
      return found;
    });
    if (argv.json) {
      printJson({ identity_id: person.id, username: person.username });
    } else {
      printLine(
        `${person.username} has a new password; their logins have ended, and their agents wait for the next one.`,
      );
    }
    return 0;
  },
);
