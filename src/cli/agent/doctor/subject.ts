/** What the checks look at: one endpoint, with what several of them need found out once. Only reads. */
import { performance } from 'node:perf_hooks';

import type { HubClient } from '../../../client/hub-client.ts';
import type { ResultConnection } from '../../../protocol/rest.ts';
import { parseBrokerUrl } from '../../../transport/amqp/broker-address.ts';
import type { BrokerAddress } from '../../../transport/amqp/broker-address.ts';
import type { EndpointContext } from '../endpoint-argument.ts';
import { commandHttp, commandHubClient, userInfo, userInfoTokens } from '../hub-access.ts';
import type { UserInfo } from '../hub-access.ts';
import type { CommandLimits, HubPlace } from '../hub-place.ts';
import { findSignIn } from '../sign-in.ts';
import type { SignIn } from '../sign-in.ts';
import { readStatus } from '../status-document.ts';
import type { StatusDocument } from '../status-document.ts';
import { settingsInPart } from './settings-in-part.ts';
import type { SettingsInPart } from './settings-in-part.ts';

/** What the hub answered to somebody who has not signed in. */
export interface HubGreeting {
  readonly version: unknown;
  /** What its own checks say; undefined from a hub that has none. */
  readonly health: Readonly<Record<string, unknown>> | undefined;
  readonly roundTripMs: number;
  /** How far its clock is ahead of ours, in milliseconds; undefined when it does not tell the time. */
  readonly clockAheadMs: number | undefined;
}

/** Where the broker is, and with what this identity signs in there. */
export interface BrokerAccess {
  /** With a password. */
  readonly url: string;
  readonly address: BrokerAddress;
  readonly queuePrefix: string;
}

/** An endpoint that is looked at. */
export interface Subject {
  readonly context: EndpointContext;
  readonly settings: SettingsInPart;
  /** Of one check. */
  readonly limitMs: number;
  readonly status: () => Promise<StatusDocument>;
  readonly signIn: () => Promise<SignIn>;
  readonly identity: () => Promise<UserInfo>;
  readonly greeting: () => Promise<HubGreeting>;
  readonly hub: () => Promise<HubClient>;
  readonly broker: () => Promise<BrokerAccess>;
}

/** Opens an endpoint for the checks. */
export async function openSubject(context: EndpointContext, limitMs: number): Promise<Subject> {
  const { directory, environment } = context;
  const settings = await settingsInPart(directory, environment);
  const { config } = settings;
  // Within the deadline of a check, so that it says what is wrong and not only that it took long.
  const limits = { timeoutMs: Math.max(500, limitMs * 0.8), retries: 0 };
  const { dotenvPath } = directory;
  const signIn = once(async () => await findSignIn(() => config, { environment, dotenvPath }));
  const hub = once(async () => commandHubClient(config, await signIn(), limits));
  return {
    context,
    settings,
    limitMs,
    status: once(async () => await readStatus(context)),
    signIn,
    hub,
    identity: once(async () => await userInfo(config, userInfoTokens(config, await signIn()))),
    greeting: once(async () => await greet(config, limits)),
    broker: once(async () => brokerAccess(await (await hub()).resultConnection(), config.amqpPort)),
  };
}

async function greet(hub: HubPlace, limits: CommandLimits): Promise<HubGreeting> {
  const http = commandHttp(hub, limits);
  const get = { method: 'GET', idempotent: true } as const;
  // The first one opens the connection, which must not count as a difference of clocks.
  const health = await http.request({ ...get, path: '/v1/health' });
  const askedMs = Date.now();
  const begunMs = performance.now();
  const reply = await http.request({ ...get, path: '/v2/version', query: { service: 'all' } });
  const roundTripMs = performance.now() - begunMs;
  const body = fieldsOrNothing(reply.body);
  const date = Date.parse(reply.headers.get('date') ?? '');
  // The header has whole seconds, cut off: half of one is right in the mean.
  const clockAheadMs = Number.isNaN(date) ? undefined : date + 500 - (askedMs + roundTripMs / 2);
  const isHealth = health.status === 200 || health.status === 503;
  return {
    version: reply.status === 200 ? body?.['api'] : undefined,
    health: isHealth ? fieldsOrNothing(health.body) : undefined,
    roundTripMs,
    clockAheadMs,
  };
}

function fieldsOrNothing(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === 'object' && value !== null
    ? (value as Readonly<Record<string, unknown>>)
    : undefined;
}

function brokerAccess(
  { connection_url: connectionUrl, queue_prefix: queuePrefix }: ResultConnection,
  port: number | undefined,
): BrokerAccess {
  let url = connectionUrl;
  if (port !== undefined && URL.canParse(url)) {
    const moved = new URL(url);
    moved.port = String(port);
    url = moved.href;
  }
  return { url, address: parseBrokerUrl(url), queuePrefix };
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return async () => await (made ??= make());
}
