/** `agent delete`: the endpoint at the hub first, then its directory, so that a failure can be tried again. */
import { rm } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';

import { ConflictError, ComputeError, UsageError } from '../../base/errors.ts';
import { readRegistration } from '../../config/endpoint-directory.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine, printNote } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { commandHubClient } from './hub-access.ts';
import { refuseElsewhere, refuseWhenRunning } from './presence.ts';
import { findSignIn } from './sign-in.ts';
import { stopEndpoint } from './stop-endpoint.ts';

const STOP_LIMIT_MS = 120_000;

/** Deletes an endpoint. */
export const deleteEndpoint = defineCommand(
  (parser) =>
    withEndpointName(parser)
      .option('force', {
        type: 'boolean',
        default: false,
        describe: 'Stop it if it runs, and delete the directory even when the hub cannot be told',
      })
      .option('yes', { alias: 'y', type: 'boolean', default: false, describe: 'Do not ask' }),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    const { directory } = context;
    if (!argv.force) {
      await refuseWhenRunning(directory);
      await refuseElsewhere(directory);
    }
    if (!argv.yes && !(await confirmed(directory.path))) {
      printNote('Nothing was deleted.');
      return 0;
    }
    await stopEndpoint(context, STOP_LIMIT_MS, printNote);
    const atHub = await deleteAtHub(context, argv.force);
    await rm(directory.path, { recursive: true, force: true });
    if (argv.json) {
      printJson({ name: directory.name, path: directory.path, hub: atHub });
    } else {
      printLine(`Deleted endpoint ${directory.name} (${directory.path}).`);
    }
    return 0;
  },
);

/** Tells the hub. With `force` a failure is noted and does not stand in the way. */
async function deleteAtHub(
  context: EndpointContext,
  force: boolean,
): Promise<'deleted' | 'unknown' | 'not_registered' | 'failed'> {
  const { directory, environment } = context;
  try {
    const registration = readRegistration(directory);
    if (registration === undefined) {
      return 'not_registered';
    }
    const { config } = await loadAgentConfig(directory, environment);
    const { dotenvPath } = directory;
    const signIn = await findSignIn(() => config, { environment, dotenvPath });
    await commandHubClient(config, signIn).deleteEndpoint(registration.endpointId);
    return 'deleted';
  } catch (error) {
    if (error instanceof ConflictError && error.code === 'ENDPOINT_NOT_FOUND') {
      return 'unknown';
    }
    if (!force || !(error instanceof ComputeError)) {
      throw error;
    }
    printNote(`The hub still has the endpoint: ${error.message}`);
    return 'failed';
  }
}

async function confirmed(path: string): Promise<boolean> {
  if (!process.stdin.isTTY) {
    throw new UsageError('There is no terminal to ask at: give --yes to delete.');
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(
      `Delete the endpoint at the hub and ${path} with its journal and logs? [y/N] `,
    );
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    prompt.close();
  }
}
