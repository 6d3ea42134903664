/**
 * A hub process: database, task plane and HTTP server, started in this order and stopped in the reverse one.
 *
 * No state that matters lives here: any number of hub processes may share a database and a broker. A failed start
 * releases what it took and keeps the first error.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

import type { Clock, Timer } from '../base/clock.ts';
import { withDeadline } from '../base/deadline.ts';
import { UnavailableError, invariant } from '../base/errors.ts';
import { detach } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import { packageVersion } from '../base/package-root.ts';
import { ReleaseStack } from '../base/release-stack.ts';
import { AccessTokens } from './auth/access-tokens.ts';
import { ClientRegistry } from './auth/client-registry.ts';
import type { ExternalIssuer } from './auth/external-issuers.ts';
import { createSignIn } from './auth/sign-in.ts';
import type { SignIn } from './auth/sign-in.ts';
import { createBlobs } from './blobs/create-blobs.ts';
import type { BlobSettings } from './blobs/create-blobs.ts';
import type { ResultBlobs } from './blobs/result-blobs.ts';
import { EndpointCatalogue } from './catalogue/endpoint-catalogue.ts';
import { EndpointRegistrar } from './catalogue/endpoint-registrar.ts';
import { FunctionCatalogue } from './catalogue/function-catalogue.ts';
import { LeaseKeeper } from './catalogue/lease-keeper.ts';
import { EndpointCommands } from './commands/endpoint-commands.ts';
import { checkDatabase, migrateDatabase, openDatabase } from './db/database.ts';
import type { HubDatabase } from './db/schema.ts';
import { createAccessControl, createSharingServices } from './groups/sharing-services.ts';
import type { TlsIdentity } from './http/listeners.ts';
import type { ApiLimits, Readiness } from './http/route-context.ts';
import { createHttpServer } from './http/server.ts';
import { createTaskPlane } from './task-plane.ts';
import type { TaskPlane, TaskPlaneHealth } from './task-plane.ts';

/** Settings of a hub. */
export interface HubSettings {
  readonly databaseUrl: string;
  readonly amqpUrl: string;
  /** What endpoints and SDKs are told to dial. */
  readonly amqpPublicUrl: string;
  readonly managementUrl: string;
  /** Authorities of broker and database that are trusted beside the system's (PEM). */
  readonly ca?: string;
  readonly host: string;
  readonly port: number;
  readonly publicUrl?: string;
  readonly tls?: TlsIdentity;
  readonly limits: ApiLimits;
  /** Where results go that are too large for a message; absent: nowhere. */
  readonly blobs?: BlobSettings;
  /** Issuers whose tokens are taken beside the hub's own. */
  readonly issuers?: readonly ExternalIssuer[];
  /** How soon after its keys were fetched an issuer may be asked for new ones. @defaultValue 30 s */
  readonly keysCooldownMs?: number;
  readonly retentionMs: number;
  /** How long a task may wait for its endpoint. @defaultValue two weeks */
  readonly taskTtlMs?: number;
  /** How long an endpoint may be gone before the tasks that it received count as lost. @defaultValue a day */
  readonly lostAfterMs?: number;
  /** How long a start waits for the broker. @defaultValue 20 s */
  readonly brokerTimeoutMs?: number;
}

/** Where a started hub is reached. */
export interface HubAddress {
  readonly port: number;
  /** Without a slash at the end. */
  readonly url: string;
}

const PURGE_PERIOD_MS = 3600_000;
const HEALTH_TIMEOUT_MS = 3000;
const BROKER_TIMEOUT_MS = 20_000;

/** The control plane as one process. */
export class Hub {
  readonly #settings: HubSettings;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #stack = new ReleaseStack();
  #starting: Promise<HubAddress> | undefined;
  #address: HubAddress | undefined;
  #purgeTimer: Timer | undefined;

  constructor(settings: HubSettings, parts: { readonly clock: Clock; readonly logger: Logger }) {
    this.#settings = settings;
    this.#clock = parts.clock;
    this.#logger = parts.logger;
  }

  /** Where the hub is reached, once started. */
  get address(): HubAddress {
    invariant(this.#address !== undefined, 'the hub was asked for its address before it started');
    return this.#address;
  }

  /**
   * Starts everything and returns once requests are answered.
   *
   * @throws UnavailableError DATABASE_UNREACHABLE, BROKER_UNREACHABLE, PORT_IN_USE; ConfigError.
   */
  async start(): Promise<HubAddress> {
    this.#starting ??= this.#start();
    return await this.#starting;
  }

  /** Stops everything; idempotent. A start that is under way ends first, so that nothing is taken after the release. */
  async stop(): Promise<void> {
    try {
      await this.#starting;
    } catch (error) {
      // Whoever started has the error; a failed start has released everything.
      this.#logger.debug({ err: error }, 'stopping a hub whose start failed');
    }
    await this.#stack.release();
  }

  async #start(): Promise<HubAddress> {
    try {
      return await this.#acquire();
    } catch (error) {
      await this.#stack.release().catch((failure: unknown) => {
        this.#logger.error({ err: failure }, 'releasing after a failed start failed too');
      });
      throw error;
    }
  }

  async #acquire(): Promise<HubAddress> {
    const settings = this.#settings;
    const clock = this.#clock;
    const logger = this.#logger;
    const trust = settings.ca === undefined ? {} : { ca: settings.ca };
    const db = openDatabase({ url: settings.databaseUrl, logger, ...trust });
    this.#stack.push('database', async () => {
      await db.destroy();
    });
    await checkDatabase(db, settings.databaseUrl);
    const applied = await migrateDatabase(db);
    if (applied.length > 0) {
      logger.info({ migrations: applied }, 'database migrated');
    }
    // Before anybody can look at a lease.
    const leases = new LeaseKeeper(db, clock, logger);
    this.#stack.push('leases', () => {
      leases.stop();
    });
    await leases.start();

    const plane = createTaskPlane({
      db,
      amqpUrl: settings.amqpUrl,
      amqpPublicUrl: settings.amqpPublicUrl,
      managementUrl: settings.managementUrl,
      ...trust,
      clock,
      logger,
      retentionMs: settings.retentionMs,
      ...(settings.taskTtlMs !== undefined && { taskTtlMs: settings.taskTtlMs }),
      ...(settings.lostAfterMs !== undefined && { lostAfterMs: settings.lostAfterMs }),
      startTimeoutMs: settings.brokerTimeoutMs ?? BROKER_TIMEOUT_MS,
    });
    this.#stack.push('task plane', async () => {
      await plane.stop();
    });
    await plane.start();
    return await this.#serve(db, plane);
  }

  async #serve(db: Kysely<HubDatabase>, plane: TaskPlane): Promise<HubAddress> {
    const settings = this.#settings;
    const clock = this.#clock;
    const logger = this.#logger;
    const { topology, tasks } = plane;
    const tokens = new AccessTokens(db, clock);
    const signIn = createSignIn({
      db,
      tokens,
      clock,
      logger,
      ...(settings.publicUrl === undefined ? {} : { publicUrl: settings.publicUrl }),
      ...(settings.issuers === undefined ? {} : { issuers: settings.issuers }),
      ...(settings.ca === undefined ? {} : { ca: settings.ca }),
      ...(settings.keysCooldownMs === undefined ? {} : { keysCooldownMs: settings.keysCooldownMs }),
    });
    const blobs =
      settings.blobs &&
      (await createBlobs(settings.blobs, {
        db,
        logger: logger.child({ component: 'blobs' }),
        ...(settings.ca === undefined ? {} : { ca: settings.ca }),
      }));
    const access = createAccessControl(db, clock);
    const endpoints = new EndpointCatalogue(db, clock, access);
    const functions = new FunctionCatalogue(db, clock, settings.limits.functionBytesMax, access);
    const server = await createHttpServer({
      version: packageVersion(),
      limits: settings.limits,
      clients: new ClientRegistry(db, clock),
      tokens,
      signIn,
      functions,
      endpoints,
      sharing: createSharingServices({ db, clock, logger }, access, { functions, endpoints }),
      registrar: new EndpointRegistrar({
        db,
        topology,
        endpoints,
        clock,
        logger,
        onRegistered: (endpoint) => {
          plane.endpointRegistered(endpoint);
        },
      }),
      commands: new EndpointCommands({
        db,
        endpoints,
        send: async (queue, message) => await plane.sendCommand(queue, message),
      }),
      topology,
      tasks,
      ...(blobs === undefined ? {} : { blobs }),
      readiness: async () => await this.#readiness(db, plane),
      clock,
      logger,
      ...(settings.publicUrl === undefined ? {} : { publicUrl: settings.publicUrl }),
      listen: {
        host: settings.host,
        port: settings.port,
        ...(settings.tls === undefined ? {} : { tls: settings.tls }),
      },
    });
    this.#stack.push('http server', async () => {
      await server.stop();
    });
    const port = await server.start();
    this.#schedulePurge(tokens, signIn, blobs);
    this.#stack.push('purge of tokens', () => {
      this.#purgeTimer?.cancel();
    });
    this.#address = { port, url: settings.publicUrl ?? localUrl(settings, port) };
    logger.info({ host: settings.host, ...this.#address }, 'hub is listening');
    return this.#address;
  }

  async #readiness(db: Kysely<HubDatabase>, plane: TaskPlane): Promise<Readiness> {
    let database: Record<string, unknown>;
    try {
      await withDeadline(
        this.#clock,
        HEALTH_TIMEOUT_MS,
        sql`select 1`.execute(db),
        () => new UnavailableError('DATABASE_UNREACHABLE', 'the database does not answer'),
      );
      database = { isReady: true };
    } catch (error) {
      this.#logger.warn({ err: error }, 'the database is not ready');
      // Anybody may ask: what the driver says stays in the log.
      database = { isReady: false, reason: 'the database does not answer' };
    }
    const broker = brokerCheck(plane.health());
    return {
      isReady: database['isReady'] === true && broker['isReady'] === true,
      checks: { database, broker },
    };
  }

  #schedulePurge(tokens: AccessTokens, signIn: SignIn, blobs: ResultBlobs | undefined): void {
    const purge = async (): Promise<void> => {
      const count = await tokens.purgeExpired();
      await signIn.logins.purgeExpired();
      await blobs?.purge(this.#clock.now());
      this.#logger.debug({ count }, 'deleted expired access tokens');
    };
    detach(this.#logger, 'deleting expired access tokens', purge());
    this.#purgeTimer = this.#clock.after(PURGE_PERIOD_MS, () => {
      this.#schedulePurge(tokens, signIn, blobs);
    });
  }
}

function localUrl({ host, tls }: HubSettings, port: number): string {
  const name = ['0.0.0.0', '::', ''].includes(host) ? 'localhost' : host;
  const authority = name.includes(':') ? `[${name}]` : name;
  return `${tls === undefined ? 'http' : 'https'}://${authority}:${port}`;
}

function brokerCheck({ consuming, publishing, blocked }: TaskPlaneHealth): Record<string, unknown> {
  const offline = [consuming, publishing].find((session) => session.phase !== 'online');
  if (offline === undefined) {
    return blocked === undefined
      ? { isReady: true }
      : { isReady: false, reason: 'the broker takes no messages at present' };
  }
  return { isReady: false, reason: `the connection to the broker is ${offline.phase}` };
}
