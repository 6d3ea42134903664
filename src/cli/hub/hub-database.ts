/** The database that a command works on: the configured one, else the one of the `hub dev` that runs. */
import { ConfigError } from '../../base/errors.ts';
import { silentLogger } from '../../base/logger.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import { outpostHome } from '../../config/endpoint-directory.ts';
import { hubEnvironment, readDatabaseSettings } from '../../config/hub-config.ts';
import { HUB_VARIABLES } from '../../config/hub-variables.ts';
import { checkDatabase, openDatabase } from '../../hub/db/database.ts';
import type { OpenDatabase } from '../../hub/db/database.ts';
import { runningDevHub } from './dev-record.ts';

/** Runs `use` on the database and closes it. @throws ConfigError, UnavailableError DATABASE_UNREACHABLE. */
export async function withHubDatabase<T>(
  envFile: string | undefined,
  use: (db: OpenDatabase) => Promise<T>,
): Promise<T> {
  const environment = await hubEnvironment(processEnvironment(), envFile);
  const settings = readDatabaseSettings(environment);
  const url = settings.url ?? runningDevHub(outpostHome(environment))?.ready?.databaseUrl;
  if (url === undefined) {
    throw new ConfigError('there is no database to work on:', [
      {
        key: HUB_VARIABLES.databaseUrl.name,
        source: 'environment',
        expected: 'expected to be set, or a hub that was started with `hub dev` and runs',
      },
    ]);
  }
  const { ca } = settings;
  const db = openDatabase({ url, logger: silentLogger, ...(ca === undefined ? {} : { ca }) });
  try {
    await checkDatabase(db, url);
    return await use(db);
  } finally {
    await db.destroy();
  }
}
