/**
 * Credentials that `agent configure` is given, by flags and a file or by answers of the person at the terminal, and how they get
 * into the endpoint's `.env`. The secret never stands on a command line.
 */
import { text as readAll } from 'node:stream/consumers';

import { AuthError, ConfigError, UsageError } from '../../base/errors.ts';
import { renderDotenvFile } from '../../config/config-rendering.ts';
import { checkCredentialPair, findCredentials } from '../../config/credentials.ts';
import type { CredentialSources } from '../../config/credentials.ts';
import { readDotenvFile } from '../../config/dotenv-file.ts';
import { readSecretFile } from '../../config/secret-file.ts';
import { ask } from '../ask.ts';
import { printNote } from '../output.ts';

/** A client and its secret. */
export interface GivenCredentials {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** What was said about credentials on the command line. */
export interface CredentialFlags {
  readonly clientId: string | undefined;
  /** - is stdin. */
  readonly secretFile: string | undefined;
}

/** The credentials that flags name. @throws ConfigError, or UsageError when one of the two is missing and nobody can be asked. */
export async function readGivenCredentials(
  { clientId, secretFile }: CredentialFlags,
  mayAsk: boolean,
): Promise<GivenCredentials | undefined> {
  if (clientId === undefined && secretFile === undefined) {
    return undefined;
  }
  if (clientId === undefined || (secretFile === undefined && !mayAsk)) {
    throw new UsageError(
      'Give both --client-id and --client-secret-file (- for stdin), or neither.',
    );
  }
  const clientSecret =
    mayAsk && (secretFile === undefined || secretFile === '-')
      ? await askForSecret(clientId)
      : (await readSecret(secretFile ?? '-')).trim();
  checkCredentialPair(clientId, clientSecret, 'command line');
  return { clientId, clientSecret };
}

/** Asks for credentials. Nothing, when the person has none yet. */
export async function askForCredentials(): Promise<GivenCredentials | undefined> {
  printNote('Which client does this endpoint sign in as? (made with: hub client create)');
  const clientId = await ask('Client id, empty for later: ');
  if (clientId === '') {
    return undefined;
  }
  const clientSecret = await askForSecret(clientId);
  checkCredentialPair(clientId, clientSecret, 'your answer');
  return { clientId, clientSecret };
}

/** Whether there are credentials. @throws ConfigError when there are some that cannot be used. */
export async function hasCredentials(sources: CredentialSources): Promise<boolean> {
  try {
    await findCredentials(sources);
    return true;
  } catch (error) {
    if (error instanceof AuthError) {
      return false;
    }
    throw error;
  }
}

/** The text of `.env` with these credentials, and with what stood in it before. */
export async function dotenvText(
  path: string,
  credentials: GivenCredentials | undefined,
): Promise<string> {
  const before = await readDotenvFile(path);
  return renderDotenvFile({
    ...before,
    ...(credentials !== undefined && {
      OUTPOST_CLIENT_ID: credentials.clientId,
      OUTPOST_CLIENT_SECRET: credentials.clientSecret,
    }),
  });
}

async function askForSecret(clientId: string): Promise<string> {
  return await ask(`Secret of client ${clientId} (is not shown): `, { isSecret: true });
}

async function readSecret(file: string): Promise<string> {
  if (file === '-') {
    return await readAll(process.stdin);
  }
  const text = await readSecretFile(file, { key: '--client-secret-file' });
  if (text === undefined) {
    throw new ConfigError('The client secret cannot be read', [
      { key: '--client-secret-file', source: file, expected: 'there is no such file' },
    ]);
  }
  return text;
}
