/**
 * Where the SDK finds a hub and credentials that the program did not name. The first complete pair wins, both halves from
 * one source, as in the agent.
 */
import { readAuthorityFile } from '../base/authority-file.ts';
import { AuthError, ConfigError } from '../base/errors.ts';
import { CREDENTIAL_PAIRS } from '../protocol/credential-variables.ts';

/** Variables by name, such as those of the process. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Credentials of a client. */
export interface Credentials {
  readonly clientId: string;
  readonly clientSecret: string;
}

const DEFAULT_HUB_URL = 'http://localhost:5000';

/** The environment of this process; empty where there is none. */
export function processEnvironment(): Environment {
  // The SDK ships alone, without src/config, and this is the one place of it that looks at the environment.

  return (globalThis as { process?: { env?: Environment } }).process?.env ?? {};
}

/** The hub to talk to. */
export function hubUrlFrom(environment: Environment): string {
  return setting(environment, 'OUTPOST_HUB_URL') ?? DEFAULT_HUB_URL;
}

/** The authorities to trust beside the system's (PEM). @throws ConfigError when the file cannot be used. */
export function authoritiesFrom(environment: Environment): string | undefined {
  const path = setting(environment, 'OUTPOST_CA_FILE');
  if (path === undefined) {
    return undefined;
  }
  const reading = readAuthorityFile(path);
  if ('pem' in reading) {
    return reading.pem;
  }
  throw new ConfigError('the authorities to trust cannot be used', [
    {
      key: 'OUTPOST_CA_FILE',
      source: 'environment',
      value: path,
      expected: `expected ${reading.expected}`,
    },
  ]);
}

/**
 * The credentials to use: those given by the program, or those of the environment; a given half is not completed from there.
 * @throws AuthError CREDENTIALS_MISSING when there are none; ConfigError when half of a pair is missing.
 */
export function credentialsFrom(
  environment: Environment,
  given: { readonly clientId?: string; readonly clientSecret?: string } = {},
): Credentials {
  if (given.clientId !== undefined || given.clientSecret !== undefined) {
    return givenCredentials(given.clientId ?? '', given.clientSecret ?? '');
  }
  const pairs = CREDENTIAL_PAIRS.map(({ id: idName, secret: secretName }) => ({
    idName,
    secretName,
    clientId: setting(environment, idName),
    clientSecret: setting(environment, secretName),
  }));
  for (const { clientId, clientSecret } of pairs) {
    if (clientId !== undefined && clientSecret !== undefined) {
      return { clientId, clientSecret };
    }
  }
  const half = pairs.find((pair) => pair.clientId !== undefined || pair.clientSecret !== undefined);
  if (half !== undefined) {
    const [present, missing] =
      half.clientId === undefined ? [half.secretName, half.idName] : [half.idName, half.secretName];
    throw new ConfigError('the credentials are incomplete', [
      { key: missing, source: 'environment', expected: `must be set, because ${present} is` },
    ]);
  }
  throw new AuthError(
    'CREDENTIALS_MISSING',
    'no credentials: set OUTPOST_CLIENT_ID and OUTPOST_CLIENT_SECRET, or pass { clientId, clientSecret } to new Client(). ' +
      '`hub client create` makes a pair.',
  );
}

function givenCredentials(clientId: string, clientSecret: string): Credentials {
  if (clientId !== '' && clientSecret !== '') {
    return { clientId, clientSecret };
  }
  const [missing, other] =
    clientSecret === '' && clientId !== ''
      ? ['clientSecret', 'clientId']
      : ['clientId', 'clientSecret'];
  throw new ConfigError('the credentials are incomplete', [
    {
      key: missing,
      source: 'option of new Client()',
      expected: `must be given, because ${other} is; or give neither, and set OUTPOST_CLIENT_ID and OUTPOST_CLIENT_SECRET`,
    },
  ]);
}

/** Empty means unset. */
function setting(environment: Environment, name: string): string | undefined {
  const value = environment[name];
  return value === undefined || value === '' ? undefined : value;
}
