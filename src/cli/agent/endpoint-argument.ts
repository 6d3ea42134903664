/** The endpoint that a command is about, and the environment that it is looked up in. */
import type { Argv } from 'yargs';

import { processEnvironment } from '../../config/config-sources.ts';
import type { Environment } from '../../config/config-sources.ts';
import {
  DEFAULT_ENDPOINT_NAME,
  findEndpointDirectory,
  outpostHome,
} from '../../config/endpoint-directory.ts';
import type { EndpointDirectory } from '../../config/endpoint-directory.ts';

/** An endpoint and the environment of the command. */
export interface EndpointContext {
  readonly environment: Environment;
  readonly home: string;
  readonly directory: EndpointDirectory;
}

/** Declares the positional `name`. */
export function withEndpointName<T>(parser: Argv<T>): Argv<T & { name: string }> {
  return parser.positional('name', {
    type: 'string',
    default: DEFAULT_ENDPOINT_NAME,
    describe: 'Name or endpoint id',
  });
}

/** Finds the endpoint that is meant. @throws ConflictError ENDPOINT_NOT_FOUND. */
export async function openEndpoint(nameOrId: string): Promise<EndpointContext> {
  const environment = processEnvironment();
  const home = outpostHome(environment);
  return { environment, home, directory: await findEndpointDirectory(home, nameOrId) };
}
