/**
 * `agent whoami`: whose credentials are used, where they come from, and what the hub says to them. Client credentials win over the
 * login of a person, as everywhere.
 */
import { ConflictError } from '../../base/errors.ts';
import { resolveAgentConfig } from '../../config/agent-config.ts';
import type { ResolvedAgentConfig } from '../../config/agent-config.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import type { Environment } from '../../config/config-sources.ts';
import {
  DEFAULT_ENDPOINT_NAME,
  findEndpointDirectory,
  outpostHome,
} from '../../config/endpoint-directory.ts';
import type { EndpointDirectory } from '../../config/endpoint-directory.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import { defineCommand } from '../command-line.ts';
import { printFields, printJson, printNote } from '../output.ts';
import { userInfo, userInfoTokens } from './hub-access.ts';
import { findSignIn } from './sign-in.ts';

/** Shows the identity that an endpoint, or this shell, signs in as. */
export const whoami = defineCommand(
  (parser) =>
    parser.positional('name', {
      type: 'string',
      describe:
        'Endpoint whose credentials are meant; without one those of the environment, then of "default"',
    }),
  async (argv) => {
    const environment = processEnvironment();
    const directory = await findMeant(outpostHome(environment), argv.name);
    const { config } = await settings(directory, environment);
    const signIn = await findSignIn(() => config, {
      environment,
      ...(directory !== undefined && { dotenvPath: directory.dotenvPath }),
    });
    for (const warning of signIn.warnings) {
      printNote(`Note: ${warning}`);
    }
    const clientId = signIn.kind === 'client' ? signIn.credentials.clientId : undefined;
    const identity = await userInfo(config, userInfoTokens(config, signIn));
    if (argv.json) {
      printJson({
        identity_id: identity.identityId,
        username: identity.username ?? null,
        name: identity.name ?? null,
        email: identity.email ?? null,
        kind: signIn.kind,
        client_id: clientId ?? null,
        source: signIn.source,
        hub_url: config.hubUrl,
      });
      return 0;
    }
    printFields([
      ['Identity', identity.identityId],
      ['Name', identity.name],
      ['Username', identity.username],
      ['E-mail', identity.email],
      ['Client id', clientId],
      ['Source', signIn.source],
      ['Hub', config.hubUrl],
    ]);
    return 0;
  },
);

async function findMeant(
  home: string,
  name: string | undefined,
): Promise<EndpointDirectory | undefined> {
  if (name !== undefined) {
    return await findEndpointDirectory(home, name);
  }
  try {
    return await findEndpointDirectory(home, DEFAULT_ENDPOINT_NAME);
  } catch (error) {
    if (error instanceof ConflictError && error.code === 'ENDPOINT_NOT_FOUND') {
      return undefined;
    }
    throw error;
  }
}

async function settings(
  directory: EndpointDirectory | undefined,
  environment: Environment,
): Promise<ResolvedAgentConfig> {
  return directory === undefined
    ? resolveAgentConfig({ directory: outpostHome(environment), environment })
    : await loadAgentConfig(directory, environment);
}
