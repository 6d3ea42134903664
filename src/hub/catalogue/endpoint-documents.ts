/** What the hub tells about endpoints (protocol.md 3.5, 5.2): from rows to the wire's documents. */
import type {
  ConsumeQueueInfo,
  EndpointRegistered,
  EndpointStatus,
  LeaseGrant,
  PublishQueueInfo,
} from '../../protocol/rest.ts';
import {
  COMMANDS_EXCHANGE,
  HEARTBEATS_EXCHANGE,
  HEARTBEATS_QUEUE,
  RESULTS_EXCHANGE,
  RESULTS_QUEUE,
  TASKS_EXCHANGE,
} from '../broker/topology-table.ts';

/** Names of an endpoint's own queues and its credentials. */
export interface RegisteredQueues {
  readonly endpointId: string;
  readonly connectionUrl: string;
  readonly taskQueue: string;
  readonly commandQueue: string;
}

function publishInfo(queues: RegisteredQueues, exchange: string, queue: string): PublishQueueInfo {
  return {
    connection_url: queues.connectionUrl,
    exchange,
    queue,
    queue_publish_kwargs: {
      exchange,
      // What follows the endpoint's id is what the hub's queue is bound by.
      routing_key: `${queues.endpointId}.${queue}`,
      mandatory: true,
      properties: { delivery_mode: 2 },
    },
  };
}

function consumeInfo(queues: RegisteredQueues, exchange: string, queue: string): ConsumeQueueInfo {
  return { connection_url: queues.connectionUrl, exchange, queue };
}

/** The reply to a registration: always all four queue infos, whatever kind of endpoint asks. */
export function registeredDocument(
  queues: RegisteredQueues,
  lease: LeaseGrant | undefined,
): EndpointRegistered {
  return {
    endpoint_id: queues.endpointId,
    command_queue_info: consumeInfo(queues, COMMANDS_EXCHANGE, queues.commandQueue),
    task_queue_info: consumeInfo(queues, TASKS_EXCHANGE, queues.taskQueue),
    result_queue_info: publishInfo(queues, RESULTS_EXCHANGE, RESULTS_QUEUE),
    heartbeat_queue_info: publishInfo(queues, HEARTBEATS_EXCHANGE, HEARTBEATS_QUEUE),
    warnings: [],
    ...(lease === undefined ? {} : { lease }),
  };
}

const STATUS_KEYS = [
  'total_workers',
  'idle_workers',
  'pending_tasks',
  'outstanding_tasks',
  'managers',
] as const;

/** Longest text of an endpoint's mode that is shown. */
const MODE_TEXT_CHARS_MAX = 256;

/** Status as shown; `report` is the state that the endpoint sent last. */
export function statusDocument(
  isOnline: boolean,
  report: Readonly<Record<string, unknown>> | null,
): EndpointStatus {
  const mode = endpointMode(report?.['mode']);
  const details = Object.fromEntries([
    ...STATUS_KEYS.filter((key) => typeof report?.[key] === 'number').map((key) => [
      key,
      report?.[key],
    ]),
    ...(mode === undefined ? [] : [['mode', mode]]),
  ]) as Readonly<Record<string, unknown>>;
  return {
    status: isOnline ? 'online' : 'offline',
    ...(Object.keys(details).length === 0 ? {} : { details }),
  };
}

/** Why an endpoint that is online takes no tasks: it was paused or drained, since when and why. Who did it is its operator's business. */
function endpointMode(reported: unknown): Readonly<Record<string, unknown>> | undefined {
  if (typeof reported !== 'object' || reported === null) {
    return undefined;
  }
  const { state, since, reason } = reported as Readonly<Record<string, unknown>>;
  const text = (value: unknown): string | null =>
    typeof value === 'string' ? value.slice(0, MODE_TEXT_CHARS_MAX) : null;
  return state === 'running' || typeof state !== 'string'
    ? undefined
    : { state: text(state), since: text(since), reason: text(reason) };
}

/** What a document is made of. */
export interface EndpointFacts {
  readonly id: string;
  readonly name: string;
  readonly display_name: string | null;
  readonly owner_id: string;
  readonly public: boolean;
  readonly shared_with: readonly string[];
  readonly may_be_shared: boolean;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Metadata that others may see of an endpoint. */
const PUBLIC_METADATA = [
  'description',
  'hostname',
  'endpoint_version',
  'sdk_version',
  'python_version',
  'allowed_serializers',
  'environment_types',
] as const;
/** Metadata that only the owner sees: configurations hold paths, accounts and more. */
const OWNER_METADATA = [
  'isolation',
  'share_without_isolation',
  'local_user',
  'ip_address',
  'endpoint_config',
  'user_config_template',
  'user_config_schema',
] as const;

/** An endpoint as its document; `isOwner` decides how much of it. */
export function endpointDocument(facts: EndpointFacts, isOwner: boolean): Record<string, unknown> {
  const shown = isOwner ? [...PUBLIC_METADATA, ...OWNER_METADATA] : PUBLIC_METADATA;
  const metadata = Object.fromEntries(
    shown
      .filter((key) => facts.metadata[key] !== undefined && facts.metadata[key] !== null)
      .map((key) => [key, facts.metadata[key]]),
  );
  return {
    uuid: facts.id,
    name: facts.name,
    display_name: facts.display_name ?? facts.name,
    owner: facts.owner_id,
    multi_user: facts.metadata['multi_user'] === true,
    high_assurance: false,
    public: facts.public,
    subscription_admin_verified: false,
    // Whom it is shared with is the owner's business.
    ...(isOwner && facts.shared_with.length > 0 ? { groups: facts.shared_with } : {}),
    ...(isOwner && !facts.may_be_shared ? { may_be_shared: false } : {}),
    ...metadata,
  };
}
