/** `hub user list`. */
import { PeopleRegistry } from '../../hub/auth/people.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printTable } from '../output.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

/** The command. */
export const userList = defineCommand(
  (parser) => withEnvFile(parser),
  async (argv) => {
    const people = await withHubDatabase(
      argv.envFile,
      async (db) => await new PeopleRegistry(db).list(),
    );
    if (argv.json) {
      printJson({
        users: people.map((person) => ({
          identity_id: person.id,
          username: person.username,
          name: person.name,
          email: person.email,
          issuer: person.issuer,
          disabled: person.isDisabled,
          created_at: person.createdAt.toISOString(),
        })),
      });
      return 0;
    }
    printTable(people, [
      { title: 'USERNAME', value: (person) => person.username },
      { title: 'IDENTITY', value: (person) => person.id },
      { title: 'NAME', value: (person) => person.name },
      { title: 'SIGNS IN', value: (person) => person.issuer ?? 'here' },
      { title: 'STATE', value: (person) => (person.isDisabled ? 'disabled' : 'active') },
      { title: 'CREATED', value: (person) => person.createdAt.toISOString() },
    ]);
    return 0;
  },
);
