/**
 * What an endpoint accepts beside functions by their id: the serializers that code and arguments may come in. The agent names them
 * in the metadata of its registration (`allowed_serializers`, identifiers), where endpoints of other kinds have nothing.
 */
import {
  readAllowedSerializers,
  serializerObstacle,
  unpackBuffers,
} from '../../protocol/serialization.ts';
import { HubError } from '../hub-error.ts';

const KEY = 'allowed_serializers';

type Metadata = Readonly<Record<string, unknown>>;

/** The serializers that an endpoint accepts, by identifier; null: every one. */
export function allowedSerializersOf(metadata: Metadata): ReadonlySet<string> | null {
  const list = metadata[KEY];
  if (!Array.isArray(list)) {
    return null;
  }
  const reading = readAllowedSerializers(list);
  // Registration checked it; what another version of the hub stored and this one does not know must not open the endpoint.
  return new Set('ids' in reading ? reading.ids : []);
}

/** Refuses a registration with a list that means nothing. @throws HubError 422. */
export function checkAllowedSerializers(metadata: Metadata | undefined): void {
  const list = metadata?.[KEY];
  if (list === undefined || list === null) {
    return;
  }
  const reading = Array.isArray(list) ? readAllowedSerializers(list) : { problem: 'it is no list' };
  if ('problem' in reading) {
    throw invalid(`body/metadata/${KEY}: ${reading.problem}`);
  }
}

/** What an agent says about itself that decides who may use it, and for what: a change of the rest of the metadata must not drop it. */
export const KEPT_METADATA: readonly string[] = [
  KEY,
  'isolation',
  'share_without_isolation',
  'environment_types',
];

/** Refuses tasks of a function in a form that the endpoint does not accept. @throws HubError 422. */
export function checkSerializers(
  allowed: ReadonlySet<string> | null,
  functionId: string,
  code: string,
  payloads: readonly string[],
): void {
  if (allowed === null) {
    return;
  }
  checkBuffers(allowed, code, `function ${functionId}`);
  for (const [index, payload] of payloads.entries()) {
    checkBuffers(allowed, payload, `task ${index + 1} of function ${functionId}`);
  }
}

function checkBuffers(allowed: ReadonlySet<string>, packed: string, what: string): void {
  let buffers: readonly string[];
  try {
    buffers = unpackBuffers(packed);
  } catch {
    throw invalid(`${what}: its serialized buffers do not add up`);
  }
  const obstacle = serializerObstacle(buffers, allowed);
  if (obstacle !== undefined) {
    throw invalid(`${what}: ${obstacle}`);
  }
}

function invalid(what: string): HubError {
  return new HubError(422, 'SEMANTICALLY_INVALID', `Request payload failed validation: ${what}`);
}
