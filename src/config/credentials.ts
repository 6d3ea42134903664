/**
 * Client credentials: the first source that has any is used, and both halves come from that one.
 *
 *   1 OUTPOST_CLIENT_ID/SECRET   2 GLOBUS_COMPUTE_CLIENT_…   3 FUNCX_SDK_CLIENT_… (old names)      environment
 *   4 outpost-client-id, -secret                                                  $CREDENTIALS_DIRECTORY (systemd)
 *   5 any of the three pairs                                                      the endpoint's .env, mode 0600
 *
 * Half a pair is a problem that names the other half, never a reason to look further: a forgotten half would otherwise
 * sign in as somebody else. The secret is read again at every use, so that a rotated one in a file is picked up.
 */
import { join } from 'node:path';

import { AuthError, ConfigError } from '../base/errors.ts';
import { CREDENTIAL_PAIRS } from '../protocol/credential-variables.ts';
import type { Environment } from './config-sources.ts';
import { readDotenvFile } from './dotenv-file.ts';
import { UUID_PATTERN } from './option-types.ts';
import { readSecretFile } from './secret-file.ts';
import { Secret } from './secret.ts';

/** Who an agent or a command signs in as. */
export interface Credentials {
  readonly clientId: string;
  /** The secret as its source has it now. @throws ConfigError when it is no longer there. */
  readonly clientSecret: () => Promise<Secret>;
  /** Where the pair comes from, for people. */
  readonly source: string;
  /** Whether the process that is started needs the pair handed over, because it stands in this environment only. */
  readonly handOver: boolean;
  readonly warnings: readonly string[];
}

/** Variables that hold credentials: none of them may reach a background process or a worker by inheritance. */
export const CREDENTIAL_VARIABLES: readonly string[] = CREDENTIAL_PAIRS.flatMap(
  ({ id, secret }) => [id, secret],
);

/** Where credentials are looked for. */
export interface CredentialSources {
  readonly environment: Environment;
  /** `.env` of the endpoint. */
  readonly dotenvPath?: string;
}

/** A pair as found, before it is judged. */
interface FoundPair {
  readonly names: { readonly id: string; readonly secret: string };
  readonly source: string;
  readonly id: string | undefined;
  readonly secret: string | undefined;
  readonly isLegacy: boolean;
  readonly handOver: boolean;
}

/**
 * Finds the credentials.
 *
 * @throws ConfigError when a source has half of a pair or a value that cannot be sent, AuthError CREDENTIALS_MISSING
 * when no source has any.
 */
export async function findCredentials(sources: CredentialSources): Promise<Credentials> {
  const found = await lookUp(sources);
  if (found === undefined) {
    throw new AuthError(
      'CREDENTIALS_MISSING',
      'There are no client credentials. Set OUTPOST_CLIENT_ID and OUTPOST_CLIENT_SECRET in the environment' +
        `${sources.dotenvPath === undefined ? '' : ` or in ${sources.dotenvPath} (mode 0600)`}. ` +
        'The hub’s administrator makes them with: hub client create',
    );
  }
  const { id, secret } = complete(found);
  return {
    clientId: id,
    clientSecret: found.handOver
      ? async () => await Promise.resolve(secret)
      : async () => await currentSecret(sources, id),
    source: found.source,
    handOver: found.handOver,
    warnings: found.isLegacy
      ? [
          `${found.names.id} and ${found.names.secret} are old names; use OUTPOST_CLIENT_ID and OUTPOST_CLIENT_SECRET`,
        ]
      : [],
  };
}

/** Credentials that another process of ours has found and handed over. @throws ConfigError when they cannot be sent. */
export function handedOverCredentials(pair: {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly source: string;
}): Credentials {
  const { source } = pair;
  const names = { id: 'client_id', secret: 'client_secret' };
  const found = { id: pair.clientId, secret: pair.clientSecret, names, source };
  const { id, secret } = complete({ ...found, isLegacy: false, handOver: true });
  return {
    clientId: id,
    clientSecret: async () => await Promise.resolve(secret),
    source,
    handOver: true,
    warnings: [],
  };
}

/** Checks a pair that somebody types in. @throws ConfigError with what is wrong. */
export function checkCredentialPair(id: string, secret: string, source: string): void {
  const names = { id: 'client_id', secret: 'client_secret' };
  complete({ id, secret, names, source, isLegacy: false, handOver: false });
}

async function currentSecret(sources: CredentialSources, clientId: string): Promise<Secret> {
  const found = await lookUp(sources);
  if (found === undefined) {
    throw new AuthError(
      'CREDENTIALS_MISSING',
      `The secret of client ${clientId} is gone from where it was. Put it back; the agent asks again.`,
    );
  }
  const { id, secret } = complete(found);
  if (id !== clientId) {
    // Signing in as somebody else halfway would bind the endpoint to another owner.
    throw new AuthError(
      'CREDENTIALS_MISSING',
      `${found.source} now has client ${id}, and this agent was started as ${clientId}. Restart it to change its identity.`,
    );
  }
  return secret;
}

async function lookUp(sources: CredentialSources): Promise<FoundPair | undefined> {
  const { environment, dotenvPath } = sources;
  const inEnvironment = pairIn(environment, 'environment', true);
  if (inEnvironment !== undefined) {
    return inEnvironment;
  }
  const directory = environment['CREDENTIALS_DIRECTORY'];
  if (directory !== undefined && directory !== '') {
    const names = { id: 'outpost-client-id', secret: 'outpost-client-secret' };
    const id = await readSystemdCredential(directory, names.id);
    const secret = await readSystemdCredential(directory, names.secret);
    if (id !== undefined || secret !== undefined) {
      const source = `systemd credential in ${directory}`;
      return { names, source, id, secret, isLegacy: false, handOver: false };
    }
  }
  const dotenv = dotenvPath === undefined ? undefined : await readDotenvFile(dotenvPath);
  return dotenv && pairIn(dotenv, dotenvPath ?? '.env', false);
}

// The id is no secret, but systemd makes both files alike.
async function readSystemdCredential(directory: string, name: string): Promise<string | undefined> {
  const text = await readSecretFile(join(directory, name), { key: name, mayGroupRead: true });
  return unset(text?.trim());
}

function pairIn(variables: Environment, source: string, handOver: boolean): FoundPair | undefined {
  for (const names of CREDENTIAL_PAIRS) {
    const id = unset(variables[names.id]);
    const secret = unset(variables[names.secret]);
    if (id !== undefined || secret !== undefined) {
      const { isLegacy } = names;
      return { names, source: `${names.id} in ${source}`, id, secret, isLegacy, handOver };
    }
  }
  return undefined;
}

function complete(found: FoundPair): { id: string; secret: Secret } {
  const { id, secret, names, source } = found;
  if (id === undefined || secret === undefined) {
    const [missing, present] =
      id === undefined ? [names.id, names.secret] : [names.secret, names.id];
    throw new ConfigError('Half of the client credentials is missing', [
      {
        key: missing,
        source: source.replace(/^\S+ in /, ''),
        expected: `to be set as well, because ${present} is; or unset both to use another source`,
      },
    ]);
  }
  const problems = [];
  if (!UUID_PATTERN.test(id)) {
    // Not repeated: when the two were swapped, this is the secret.
    problems.push({
      key: names.id,
      source,
      expected: 'expected a UUID (are id and secret swapped?)',
    });
  }
  if (!isHeaderSafe(secret)) {
    problems.push({
      key: names.secret,
      source,
      expected:
        'expected printable ASCII, without white space around it (a line break at its end, perhaps?)',
    });
  }
  if (problems.length > 0) {
    throw new ConfigError('The client credentials cannot be used', problems);
  }
  return { id: id.toLowerCase(), secret: new Secret(secret) };
}

// A secret goes into an HTTP header; a line break there would be another header.
function isHeaderSafe(text: string): boolean {
  return /^[\u0021-\u007E]([\u0020-\u007E]*[\u0021-\u007E])?$/.test(text);
}

function unset(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}
