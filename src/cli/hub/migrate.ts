/** `hub migrate`: brings the database up to date. `hub start` and `hub dev` do it too. */
import { migrateDatabase } from '../../hub/db/database.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

/** The command. */
export const migrate = defineCommand(
  (parser) => withEnvFile(parser),
  async (argv) => {
    const applied = await withHubDatabase(argv.envFile, migrateDatabase);
    if (argv.json) {
      printJson({ applied });
    } else if (applied.length === 0) {
      printLine('the database is up to date');
    } else {
      for (const name of applied) {
        printLine(`applied ${name}`);
      }
    }
    return 0;
  },
);
