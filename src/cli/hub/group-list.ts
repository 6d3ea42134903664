/** `hub group list`. */
import { defineCommand } from '../command-line.ts';
import { printJson, printTable } from '../output.ts';
import { groupRegistry } from './group-argument.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

/** The command. */
export const groupList = defineCommand(
  (parser) => withEnvFile(parser),
  async (argv) => {
    const groups = await withHubDatabase(
      argv.envFile,
      async (db) => await groupRegistry(db).list(),
    );
    if (argv.json) {
      printJson({
        groups: groups.map((group) => ({
          group_id: group.id,
          name: group.name,
          description: group.description,
          claim: group.claim,
          member_count: group.memberCount,
          created_at: group.createdAt.toISOString(),
        })),
      });
      return 0;
    }
    printTable(groups, [
      { title: 'NAME', value: (group) => group.name },
      { title: 'GROUP ID', value: (group) => group.id },
      { title: 'MEMBERS', value: (group) => String(group.memberCount), align: 'right' },
      {
        title: 'ALSO MEMBERS',
        value: ({ claim }) => (claim === null ? '-' : `${claim.name} of ${claim.issuer}`),
      },
    ]);
    return 0;
  },
);
