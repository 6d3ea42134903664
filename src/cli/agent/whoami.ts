/**
 * `agent whoami`: whose credentials are used, where they come from, and what the hub says to them. Client credentials win over the
 * login of a person, as everywhere.
 */
import { AuthError, ConflictError } from '../../base/errors.ts';
import { resolveAgentConfig } from '../../config/agent-config.ts';
import type { ResolvedAgentConfig } from '../../config/agent-config.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import type { Environment } from '../../config/config-sources.ts';
import { findCredentials } from '../../config/credentials.ts';
import {
  DEFAULT_ENDPOINT_NAME,
  findEndpointDirectory,
  outpostHome,
} from '../../config/endpoint-directory.ts';
import type { EndpointDirectory } from '../../config/endpoint-directory.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import type { TokenSource } from '../../transport/oauth/client-credentials.ts';
import { defineCommand } from '../command-line.ts';
import { printFields, printJson, printNote } from '../output.ts';
import { USER_INFO_SCOPE, userInfo, userInfoTokens } from './hub-access.ts';
import type { HubPlace } from './hub-access.ts';
import { loginPlace } from './login-place.ts';

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
    const source = await signedInAs(config, environment, directory);
    const identity = await userInfo(config, source.tokens);
    if (argv.json) {
      printJson({
        identity_id: identity.identityId,
        username: identity.username ?? null,
        name: identity.name ?? null,
        email: identity.email ?? null,
        kind: source.clientId === undefined ? 'person' : 'client',
        client_id: source.clientId ?? null,
        source: source.description,
        hub_url: config.hubUrl,
      });
      return 0;
    }
    printFields([
      ['Identity', identity.identityId],
      ['Name', identity.name],
      ['Username', identity.username],
      ['E-mail', identity.email],
      ['Client id', source.clientId],
      ['Source', source.description],
      ['Hub', config.hubUrl],
    ]);
    return 0;
  },
);

interface TokensFound {
  readonly tokens: TokenSource;
  /** Where from, for people. */
  readonly description: string;
  /** Undefined when a person signed in. */
  readonly clientId?: string;
}

async function signedInAs(
  hub: HubPlace,
  environment: Environment,
  directory: EndpointDirectory | undefined,
): Promise<TokensFound> {
  try {
    const credentials = await findCredentials({
      environment,
      ...(directory !== undefined && { dotenvPath: directory.dotenvPath }),
    });
    for (const warning of credentials.warnings) {
      printNote(`Note: ${warning}`);
    }
    const { clientId, source } = credentials;
    return { tokens: userInfoTokens(hub, credentials), description: source, clientId };
  } catch (error) {
    if (!(error instanceof AuthError) || error.code !== 'CREDENTIALS_MISSING') {
      throw error;
    }
  }
  const { person, file } = loginPlace({ hub }, environment);
  return {
    tokens: person.authorizer(USER_INFO_SCOPE),
    description: `login in ${file.path}`,
  };
}

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
