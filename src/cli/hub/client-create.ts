/** `hub client create`: a new client. Its secret is printed or written once and stored only as a hash. */
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

import { systemClock } from '../../base/clock.ts';
import { UsageError } from '../../base/errors.ts';
import { ClientRegistry } from '../../hub/auth/client-registry.ts';
import type { CreatedClient } from '../../hub/auth/client-registry.ts';
import { migrateDatabase } from '../../hub/db/database.ts';
import { canonicalUuid } from '../../protocol/messages.ts';
import { defineCommand } from '../command-line.ts';
import { printFields, printJson, printNote } from '../output.ts';
import { withHubDatabase } from './hub-database.ts';
import { withEnvFile } from './hub-environment.ts';

/** The command. */
export const clientCreate = defineCommand(
  (parser) =>
    withEnvFile(parser)
      .positional('name', {
        type: 'string',
        demandOption: true,
        describe: 'Name for people; unique',
      })
      .option('id', { type: 'string', requiresArg: true, describe: 'Client id, a UUID [random]' })
      .option('endpoint-only', {
        type: 'boolean',
        default: false,
        describe: 'May run endpoints and nothing else',
      })
      .option('write-env', {
        type: 'string',
        requiresArg: true,
        describe: 'Write id and secret to this file (0600) instead of printing them',
      })
      .option('force', {
        type: 'boolean',
        default: false,
        describe: 'Replace the file of --write-env when it exists',
      }),
  async (argv) => {
    const id = argv.id === undefined ? undefined : canonicalUuid(argv.id);
    if (argv.id !== undefined && id === undefined) {
      throw new UsageError(`--id ${argv.id} is not a UUID; leave it out to get a random one`);
    }
    if (argv.name.trim() === '' || argv.name.length > 256) {
      throw new UsageError('the name of a client has 1 to 256 characters');
    }
    const file = argv.writeEnv === undefined ? undefined : resolve(argv.writeEnv);
    if (file !== undefined && !argv.force && existsSync(file)) {
      // Before the client exists: its secret would be lost.
      throw new UsageError(
        `${file} exists already; choose another file, or replace it with --force`,
      );
    }
    const created = await withHubDatabase(argv.envFile, async (db) => {
      await migrateDatabase(db);
      return await new ClientRegistry(db, systemClock).create(argv.name, {
        endpointOnly: argv.endpointOnly,
        ...(id === undefined ? {} : { id }),
      });
    });
    if (file !== undefined) {
      writeCredentials(file, created);
    }
    report(created, file, argv.json);
    return 0;
  },
);

function writeCredentials(file: string, created: CreatedClient): void {
  const temporary = `${file}.${process.pid}`;
  writeFileSync(
    temporary,
    `OUTPOST_CLIENT_ID=${created.id}\nOUTPOST_CLIENT_SECRET=${created.secret}\n`,
    { mode: 0o600, flag: 'wx' },
  );
  renameSync(temporary, file);
}

function report(created: CreatedClient, file: string | undefined, asJson: boolean): void {
  if (asJson) {
    printJson({
      client_id: created.id,
      name: created.name,
      endpoint_only: created.endpointOnly,
      ...(file === undefined ? { client_secret: created.secret } : { env_file: file }),
    });
    return;
  }
  printFields([
    ['client id', created.id],
    ['client secret', file === undefined ? created.secret : undefined],
    ['written to', file],
  ]);
  if (file === undefined) {
    printNote('The secret is shown only now; it is stored as a hash.');
  }
}
