/** `hub group delete`. */
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { findGroup, groupRegistry, withGroup } from './group-argument.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

/** The command. */
export const groupDelete = defineCommand(
  (parser) => withGroup(withEnvFile(parser)),
  async (argv) => {
    const group = await withHubDatabase(argv.envFile, async (db) => {
      const found = await findGroup(db, argv.group);
      await groupRegistry(db).delete(found.id);
      return found;
    });
    if (argv.json) {
      printJson({ group_id: group.id, name: group.name, deleted: true });
    } else {
      printLine(`deleted group ${group.name} (${group.id}); nothing is shared with it any more`);
    }
    return 0;
  },
);
