/** `hub group show`. */
import { defineCommand } from '../command-line.ts';
import { printFields, printJson, printLine, printTable } from '../output.ts';
import { findGroup, groupRegistry, namesOf, withGroup } from './group-argument.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

/** The command. */
export const groupShow = defineCommand(
  (parser) => withGroup(withEnvFile(parser)),
  async (argv) => {
    const { group, members } = await withHubDatabase(argv.envFile, async (db) => {
      const found = await findGroup(db, argv.group);
      const rows = await groupRegistry(db).members(found.id);
      const names = await namesOf(
        db,
        rows.map((row) => row.identityId),
      );
      return {
        group: found,
        members: rows.map((row) => ({ ...row, name: names.get(row.identityId) })),
      };
    });
    if (argv.json) {
      printJson({
        group_id: group.id,
        name: group.name,
        description: group.description,
        claim: group.claim,
        members: members.map((member) => ({
          identity_id: member.identityId,
          name: member.name ?? null,
          role: member.role,
          since: member.since.toISOString(),
        })),
      });
      return 0;
    }
    const { claim } = group;
    printFields([
      ['group id', group.id],
      ['name', group.name],
      ['description', group.description ?? undefined],
      ['also members', claim === null ? undefined : `${claim.name} of ${claim.issuer}`],
    ]);
    printLine();
    printTable(members, [
      { title: 'MEMBER', value: (member) => member.name ?? '(no longer exists)' },
      { title: 'ROLE', value: (member) => member.role },
      { title: 'IDENTITY', value: (member) => member.identityId },
      { title: 'SINCE', value: (member) => member.since.toISOString() },
    ]);
    return 0;
  },
);
