/**
 * What exists at the broker, as one table: exchanges, the hub's queues, the queues of an endpoint, and who may do what.
 *
 *   exchange     type     queue                        binding          publishes               consumes
 *   tasks        direct   <endpoint>.<suffix>.tasks    its own name     hub                     that endpoint
 *   commands     direct   <endpoint>.<suffix>.commands its own name     hub                     that endpoint
 *   results      topic    results                      *.results        endpoint, own key only  hub
 *   heartbeats   topic    heartbeats                   *.heartbeats     endpoint, own key only  hub
 *   (default)             <person>.<task group>        its own name     hub                     that person, or client
 *
 * Everything is durable. A user of the vhost can look at any queue whose name it knows, therefore the random suffix.
 */

export const TASKS_EXCHANGE = 'tasks';
export const COMMANDS_EXCHANGE = 'commands';
export const RESULTS_EXCHANGE = 'results';
export const HEARTBEATS_EXCHANGE = 'heartbeats';
/** Queue that the hub takes results from. */
export const RESULTS_QUEUE = 'results';
/** Queue that the hub takes heartbeats from. */
export const HEARTBEATS_QUEUE = 'heartbeats';

/** A heartbeat that waited longer says nothing about now: a hub that was down must not show its backlog as life. */
export const HEARTBEAT_TTL_MS = 120_000;

/** An exchange to declare. */
export interface ExchangeRow {
  readonly name: string;
  readonly type: 'direct' | 'topic';
}

/** A queue to declare, with its binding unless it is reached by its name alone. */
export interface QueueRow {
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly binding?: { readonly exchange: string; readonly routingKey: string };
}

/** Rights of a user; each a regular expression over names, as RabbitMQ takes them. */
export interface UserRow {
  readonly name: string;
  readonly configure: string;
  readonly write: string;
  readonly read: string;
  /** Routing keys that may be published per topic exchange. */
  readonly topics: readonly { readonly exchange: string; readonly write: string }[];
}

/** An endpoint, as far as its queues go. */
export interface EndpointQueues {
  readonly id: string;
  readonly queueSuffix: string;
}

/** Exchanges of the product. */
export const EXCHANGES: readonly ExchangeRow[] = [
  { name: TASKS_EXCHANGE, type: 'direct' },
  { name: COMMANDS_EXCHANGE, type: 'direct' },
  { name: RESULTS_EXCHANGE, type: 'topic' },
  { name: HEARTBEATS_EXCHANGE, type: 'topic' },
];

/** Queues that the hub itself consumes. */
export const HUB_QUEUES: readonly QueueRow[] = [
  {
    name: RESULTS_QUEUE,
    arguments: {},
    binding: { exchange: RESULTS_EXCHANGE, routingKey: '*.results' },
  },
  {
    name: HEARTBEATS_QUEUE,
    arguments: { 'x-message-ttl': HEARTBEAT_TTL_MS },
    binding: { exchange: HEARTBEATS_EXCHANGE, routingKey: '*.heartbeats' },
  },
];

/** Name of an endpoint's task queue. */
export function taskQueueName(endpoint: EndpointQueues): string {
  return `${endpoint.id}.${endpoint.queueSuffix}.tasks`;
}

/** Name of an endpoint's command queue. */
export function commandQueueName(endpoint: EndpointQueues): string {
  return `${endpoint.id}.${endpoint.queueSuffix}.commands`;
}

/** Queues of one endpoint. */
export function endpointQueues(
  endpoint: EndpointQueues,
): readonly [tasks: QueueRow, commands: QueueRow] {
  const tasks = taskQueueName(endpoint);
  const commands = commandQueueName(endpoint);
  return [
    { name: tasks, arguments: {}, binding: { exchange: TASKS_EXCHANGE, routingKey: tasks } },
    {
      name: commands,
      arguments: {},
      binding: { exchange: COMMANDS_EXCHANGE, routingKey: commands },
    },
  ];
}

/** Beginning of the names of a person's result queues. */
export function personQueuePrefix(ownerId: string): string {
  return `${ownerId}.`;
}

/** Name of the result queue of a task group. */
export function taskGroupQueueName(ownerId: string, groupId: string): string {
  return `${personQueuePrefix(ownerId)}${groupId}`;
}

/** Result queue of a task group; it goes when nobody used it for the retention. */
export function taskGroupQueue(ownerId: string, groupId: string, retentionMs: number): QueueRow {
  return { name: taskGroupQueueName(ownerId, groupId), arguments: { 'x-expires': retentionMs } };
}

const NOTHING = '^$';

function literal(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** Beginning of the names of an endpoint's users, one per lease epoch. */
export function endpointUserPrefix(endpointId: string): string {
  return `ep.${endpointId}.`;
}

/** The user of an endpoint for one lease epoch. */
export function endpointUser(endpoint: EndpointQueues, epoch: number): UserRow {
  const ownKeys = `^${literal(endpoint.id)}\\.`;
  const ownQueues = [taskQueueName(endpoint), commandQueueName(endpoint)].map(literal).join('|');
  return {
    name: `${endpointUserPrefix(endpoint.id)}${epoch}`,
    configure: NOTHING,
    write: `^(${RESULTS_EXCHANGE}|${HEARTBEATS_EXCHANGE})$`,
    read: `^(${ownQueues})$`,
    topics: [
      { exchange: RESULTS_EXCHANGE, write: ownKeys },
      { exchange: HEARTBEATS_EXCHANGE, write: ownKeys },
    ],
  };
}

/** The same user once its lease is somebody else's: it publishes the results that it still owes, and nothing else. */
export function fencedEndpointUser(endpointId: string, epoch: number): UserRow {
  return {
    name: `${endpointUserPrefix(endpointId)}${epoch}`,
    configure: NOTHING,
    write: `^${RESULTS_EXCHANGE}$`,
    read: NOTHING,
    topics: [{ exchange: RESULTS_EXCHANGE, write: `^${literal(endpointId)}\\.` }],
  };
}

/** Beginning of the names of the users that read a person's results, one per epoch (broker-epochs.ts). */
export function personUserPrefix(ownerId: string): string {
  return `person.${ownerId}`;
}

/** The user that reads a person's results in one epoch. */
export function personUser(ownerId: string, epoch: number): UserRow {
  return {
    name: epoch === 0 ? personUserPrefix(ownerId) : `${personUserPrefix(ownerId)}.${epoch}`,
    configure: NOTHING,
    write: NOTHING,
    read: `^${literal(personQueuePrefix(ownerId))}`,
    topics: [],
  };
}

/** Endpoint id at the front of a routing key such as `<endpoint>.results`, which the broker lets only that endpoint use. */
export function endpointOfRoutingKey(routingKey: string): string {
  const dot = routingKey.indexOf('.');
  return dot === -1 ? routingKey : routingKey.slice(0, dot);
}
