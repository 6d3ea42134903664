/** `hub user create`: a person who signs in at this hub with a password. */
import { UsageError } from '../../base/errors.ts';
import { PeopleRegistry, usernameProblem } from '../../hub/auth/people.ts';
import { migrateDatabase } from '../../hub/db/database.ts';
import { defineCommand } from '../command-line.ts';
import { printFields, printJson } from '../output.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';
import { PASSWORD_FILE, newPassword } from './new-password.ts';

/** The command. */
export const userCreate = defineCommand(
  (parser) =>
    withEnvFile(parser)
      .positional('username', {
        type: 'string',
        demandOption: true,
        describe: 'What the person types to sign in; unique',
      })
      .option('name', { type: 'string', requiresArg: true, describe: 'Full name [the username]' })
      .option('email', { type: 'string', requiresArg: true, describe: 'E-mail address' })
      .option('password-file', PASSWORD_FILE),
  async (argv) => {
    const problem = usernameProblem(argv.username);
    if (problem !== undefined) {
      throw new UsageError(problem);
    }
    if (argv.email !== undefined && !/^[^@\s]+@[^@\s]+$/.test(argv.email)) {
      throw new UsageError(`${argv.email} is not an e-mail address`);
    }
    const password = await newPassword(argv.passwordFile);
    const person = await withHubDatabase(argv.envFile, async (db) => {
      await migrateDatabase(db);
      return await new PeopleRegistry(db).create({
        username: argv.username,
        password,
        ...(argv.name === undefined ? {} : { name: argv.name }),
        ...(argv.email === undefined ? {} : { email: argv.email }),
      });
    });
    if (argv.json) {
      const { id, username, name, email } = person;
      printJson({ identity_id: id, username, name, email });
      return 0;
    }
    printFields([
      ['identity', person.id],
      ['username', person.username],
      ['next', 'the person runs: agent login'],
    ]);
    return 0;
  },
);
