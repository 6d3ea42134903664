/**
 * The directory of an endpoint: its name, its files and their modes.
 *
 *   $OUTPOST_HOME (default ~/.outpost)                        0700
 *   └── <name>/                                               0700
 *       ├── config.yaml     settings; a directory with it is an endpoint
 *       ├── .env            credentials                       0600
 *       ├── endpoint.json   endpoint id and lease epoch       0600, replaced as a whole
 *       ├── mode.json       whether it takes tasks           0600, replaced as a whole
 *       ├── agent.lock      who runs it
 *       ├── journal/  logs/  tasks/
 *
 * Whether an agent runs is never answered here but by the lock's contents and the control socket.
 */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

import {
  ConfigError,
  ConflictError,
  UnavailableError,
  UsageError,
  errorCode,
  errorText,
} from '../base/errors.ts';
import { readTextFile } from './config-sources.ts';
import type { Environment } from './config-sources.ts';
import { UUID_PATTERN } from './option-types.ts';

/** Name of the endpoint that commands mean when none is given. */
export const DEFAULT_ENDPOINT_NAME = 'default';

const NAME_LENGTH_MAX = 128;

/** Paths of one endpoint. */
export interface EndpointDirectory {
  readonly name: string;
  readonly path: string;
  readonly configPath: string;
  readonly dotenvPath: string;
  readonly registrationPath: string;
  readonly logsPath: string;
  readonly logPath: string;
  /** What the background process wrote on stderr: crashes of the runtime itself. */
  readonly stderrPath: string;
}

/** What a registration left for the next start. */
export interface StoredRegistration {
  readonly endpointId: string;
  readonly leaseEpoch: number;
}

/** State directory of the user. @throws ConfigError when it is set to a relative path. */
export function outpostHome(environment: Environment): string {
  const home = environment['OUTPOST_HOME'];
  if (home === undefined || home === '') {
    return join(homedir(), '.outpost');
  }
  if (!isAbsolute(home)) {
    // A relative one would be another directory for every working directory.
    const problem = { key: 'OUTPOST_HOME', source: 'environment', value: home };
    throw new ConfigError('The state directory cannot be used', [
      { ...problem, expected: 'expected an absolute path' },
    ]);
  }
  return home;
}

/** Paths of the endpoint called `name`. @throws UsageError when the name cannot be one. */
export function endpointDirectory(home: string, name: string): EndpointDirectory {
  const problem = nameProblem(name);
  if (problem !== undefined) {
    throw new UsageError(`${JSON.stringify(name)} cannot be the name of an endpoint: ${problem}`);
  }
  return pathsOf(home, name);
}

/** Why a text cannot be the name of an endpoint, or undefined. */
export function nameProblem(name: string): string | undefined {
  if (name.length === 0 || name.length > NAME_LENGTH_MAX) {
    return `it must have 1 to ${NAME_LENGTH_MAX} characters`;
  }
  if (Buffer.byteLength(name) > 255) {
    return 'it is too long for a file name';
  }
  // eslint-disable-next-line no-control-regex -- control characters are what is refused
  if (/[\s/\\'"\u0000-\u001F\u007F]/.test(name)) {
    return 'it must have no white space, slashes, quotes or control characters';
  }
  if (name.startsWith('.') || name.startsWith('-')) {
    return 'it must not begin with a dot or a hyphen';
  }
  return UUID_PATTERN.test(name) ? 'it must not look like an endpoint id' : undefined;
}

/** All endpoints of the state directory, by name. */
export async function listEndpointDirectories(home: string): Promise<EndpointDirectory[]> {
  let names: string[];
  try {
    names = await readdir(home);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return [];
    }
    throw new UnavailableError('START_FAILED', `${home} cannot be read: ${errorText(error)}`, {
      cause: error,
    });
  }
  return names
    .filter((name) => nameProblem(name) === undefined)
    .sort()
    .map((name) => pathsOf(home, name))
    .filter((directory) => existsSync(directory.configPath));
}

/** The endpoint with this name or endpoint id. @throws ConflictError ENDPOINT_NOT_FOUND. */
export async function findEndpointDirectory(
  home: string,
  nameOrId: string,
): Promise<EndpointDirectory> {
  if (UUID_PATTERN.test(nameOrId)) {
    const id = nameOrId.toLowerCase();
    for (const directory of await listEndpointDirectories(home)) {
      if (readRegistration(directory)?.endpointId === id) {
        return directory;
      }
    }
    throw new ConflictError(
      'ENDPOINT_NOT_FOUND',
      `No endpoint in ${home} has the id ${id}. See: agent list`,
    );
  }
  const directory = endpointDirectory(home, nameOrId);
  if (!existsSync(directory.configPath)) {
    throw new ConflictError(
      'ENDPOINT_NOT_FOUND',
      `There is no endpoint ${nameOrId} in ${home}. Make it with: agent configure ${nameOrId}`,
    );
  }
  return directory;
}

/** Makes sure that an endpoint can be made. @throws ConflictError ENDPOINT_EXISTS. */
export function refuseExistingEndpoint(directory: EndpointDirectory, cause?: unknown): void {
  if (existsSync(directory.path)) {
    throw new ConflictError(
      'ENDPOINT_EXISTS',
      `${directory.path} exists. Give another name, or write its config.yaml anew with --force.`,
      { cause },
    );
  }
}

/** Makes the directory of a new endpoint. @throws ConflictError ENDPOINT_EXISTS. */
export async function createEndpointDirectory(
  home: string,
  name: string,
): Promise<EndpointDirectory> {
  const directory = endpointDirectory(home, name);
  await mkdir(home, { recursive: true, mode: 0o700 });
  try {
    await mkdir(directory.path, { mode: 0o700 });
  } catch (error) {
    refuseExistingEndpoint(directory, error);
    throw new UnavailableError(
      'START_FAILED',
      `${directory.path} cannot be made: ${errorText(error)}`,
      { cause: error },
    );
  }
  return directory;
}

/** Creates `logs/`, with its mode whatever the umask. */
export async function ensureLogsDirectory(directory: EndpointDirectory): Promise<void> {
  await mkdir(directory.logsPath, { recursive: true, mode: 0o700 });
}

/** What the last registration left, or undefined before the first. @throws ConfigError when the file is damaged. */
export function readRegistration(directory: EndpointDirectory): StoredRegistration | undefined {
  const path = directory.registrationPath;
  const text = readTextFile(path);
  if (text === undefined) {
    return undefined;
  }
  const document = parseJson(text);
  const { endpoint_id: endpointId, lease_epoch: leaseEpoch } = document;
  if (typeof endpointId !== 'string' || !UUID_PATTERN.test(endpointId)) {
    throw new ConfigError('The file with the endpoint’s id is damaged', [
      {
        key: 'endpoint_id',
        source: path,
        expected: `expected a UUID; put the endpoint’s id back as {"endpoint_id": "…"}, or remove the file to register as a new endpoint`,
      },
    ]);
  }
  return {
    endpointId: endpointId.toLowerCase(),
    leaseEpoch: Number.isSafeInteger(leaseEpoch) ? (leaseEpoch as number) : 0,
  };
}

/** Keeps a registration: on disk before this resolves, and never half of it. */
export async function writeRegistration(
  directory: EndpointDirectory,
  registration: StoredRegistration,
): Promise<void> {
  const document = {
    endpoint_id: registration.endpointId,
    lease_epoch: registration.leaseEpoch,
  };
  await replaceFile(directory.registrationPath, `${JSON.stringify(document)}\n`);
}

/** Replaces a file as a whole, with mode 0600, synced. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw new UnavailableError('START_FAILED', `${path} cannot be written: ${errorText(error)}`, {
      cause: error,
    });
  }
  // The umask may have taken bits from the mode, never added any; an older file's mode is gone with it.
  await chmod(path, 0o600);
}

function pathsOf(home: string, name: string): EndpointDirectory {
  const path = join(home, name);
  const logsPath = join(path, 'logs');
  return {
    name,
    path,
    configPath: join(path, 'config.yaml'),
    dotenvPath: join(path, '.env'),
    registrationPath: join(path, 'endpoint.json'),
    logsPath,
    logPath: join(logsPath, 'agent.log'),
    stderrPath: join(logsPath, 'stderr.log'),
  };
}

function parseJson(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch (error) {
    if (error instanceof SyntaxError) {
      return {};
    }
    throw error;
  }
}
