/**
 * Who holds an endpoint, and telling its agent something, for its owner.
 *
 * C2 A command names the lease that it is for. The hub refuses one for an older lease, and the agent one for another than its own: what was
 *    meant for an agent that has ended never reaches the one after it.
 */
import { randomUUID } from 'node:crypto';

import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type {
  EndpointCommand,
  EndpointCommandMessage,
  EndpointLease,
  LeaseStanding,
} from '../../protocol/endpoint-commands.ts';
import type { Caller } from '../auth/caller.ts';
import { commandQueueName } from '../broker/topology-table.ts';
import { IS_ONLINE } from '../catalogue/endpoint-catalogue.ts';
import type { EndpointCatalogue } from '../catalogue/endpoint-catalogue.ts';
import type { StoredHolder } from '../catalogue/lease.ts';
import type { HubDatabase } from '../db/schema.ts';
import { HubError } from '../hub-error.ts';

/** Of a report, what whoever tells an agent something wants to see. */
const REPORT_KEYS = ['outstanding_tasks', 'pending_tasks', 'mode', 'last_command'] as const;

/** What this works with. */
export interface EndpointCommandsOptions {
  readonly db: Kysely<HubDatabase>;
  readonly endpoints: EndpointCatalogue;
  /** Puts a message on a command queue; false when nobody consumes it. */
  readonly send: (queue: string, message: EndpointCommandMessage) => Promise<boolean>;
}

/** Leases and commands. */
export class EndpointCommands {
  readonly #options: EndpointCommandsOptions;

  constructor(options: EndpointCommandsOptions) {
    this.#options = options;
  }

  /** Who holds the endpoint. @throws HubError 403 or 404. */
  async lease(owner: Caller, id: string): Promise<EndpointLease> {
    const { db, endpoints } = this.#options;
    await endpoints.owned(owner, id);
    // One statement: of two, one could see the lease before its release and one after it, which together would look expired.
    const row = await db
      .selectFrom('endpoints')
      .select(['lease_epoch', 'lease_holder', 'lease_expires_at', 'last_heartbeat_at'])
      .select(['status_report', IS_ONLINE.as('is_online')])
      .select(sql<boolean>`coalesce(lease_expires_at > now(), false)`.as('is_held'))
      .where('id', '=', id)
      .executeTakeFirstOrThrow();
    const holder: StoredHolder | null = row.lease_holder;
    const report = row.status_report ?? {};
    return {
      endpoint_id: id,
      lease: standing(row.is_held, row.lease_expires_at, holder),
      epoch: row.lease_epoch,
      holder:
        holder === null
          ? null
          : { host: holder.host, pid: holder.pid, since: holder.granted_at ?? null },
      status: row.is_online ? 'online' : 'offline',
      expires_at: row.lease_expires_at?.toISOString() ?? null,
      last_heartbeat_at: row.last_heartbeat_at?.toISOString() ?? null,
      report: Object.fromEntries(
        REPORT_KEYS.filter((key) => report[key] !== undefined).map((key) => [key, report[key]]),
      ),
    };
  }

  /** Tells the agent; returns the id under which it reports the outcome. @throws HubError 403, 404, 409. */
  async send(owner: Caller, id: string, command: EndpointCommand): Promise<string> {
    const row = await this.#options.endpoints.owned(owner, id);
    const lease = await this.lease(owner, id);
    if (lease.lease !== 'held' || lease.epoch !== command.lease_epoch) {
      throw new HubError(
        409,
        'LEASE_NOT_HELD',
        `the lease ${command.lease_epoch} of endpoint ${row.name} is not held any more; ask again who holds it`,
      );
    }
    const commandId = randomUUID();
    const message: EndpointCommandMessage = {
      command_id: commandId,
      command: command.command,
      lease_epoch: command.lease_epoch,
      ...(command.by !== undefined && { by: command.by }),
      ...(command.reason !== undefined && { reason: command.reason }),
    };
    const queue = commandQueueName({ id, queueSuffix: row.queue_suffix });
    if (!(await this.#options.send(queue, message))) {
      throw new HubError(
        409,
        'ENDPOINT_NOT_LISTENING',
        `nobody listens for commands of endpoint ${row.name}: its agent is not connected, or is of a version that takes none`,
      );
    }
    return commandId;
  }
}

function standing(
  isHeld: boolean,
  expiresAt: Date | null,
  holder: StoredHolder | null,
): LeaseStanding {
  if (holder === null) {
    return 'none';
  }
  if (isHeld) {
    return 'held';
  }
  return expiresAt === null ? 'released' : 'expired';
}
