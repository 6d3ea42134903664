/** What the routes work with, and the settings that bound them. */
import type { FastifyRequest } from 'fastify';

import type { Logger } from '../../base/logger.ts';
import type { AccessTokens } from '../auth/access-tokens.ts';
import type { ClientRegistry } from '../auth/client-registry.ts';
import type { SignIn } from '../auth/sign-in.ts';
import type { ResultBlobs } from '../blobs/result-blobs.ts';
import type { BrokerTopology } from '../broker/topology.ts';
import type { EndpointCatalogue } from '../catalogue/endpoint-catalogue.ts';
import type { EndpointRegistrar } from '../catalogue/endpoint-registrar.ts';
import type { FunctionCatalogue } from '../catalogue/function-catalogue.ts';
import type { EndpointCommands } from '../commands/endpoint-commands.ts';
import type { SharingServices } from '../groups/sharing-services.ts';
import type { RateLimits } from '../limits/rate-limit.ts';
import type { TaskService } from '../tasks/task-service.ts';
import { requireUuid } from './identifiers.ts';

/** Bounds of the API. */
export interface ApiLimits {
  /** Largest request body. */
  readonly submissionBytesMax: number;
  /** Largest function. */
  readonly functionBytesMax: number;
  /** Most tasks in one submission: more would take longer than clients wait before they send it again. */
  readonly submissionTasksMax: number;
  /** Largest task: packed function and packed arguments. @defaultValue TASK_PACKED_BYTES_MAX, which is also the most */
  readonly taskBytesMax?: number;
  /** Bounds of the rate; absent: none. */
  readonly rates?: RateLimits;
}

/** Whether the hub can serve. */
export interface Readiness {
  readonly isReady: boolean;
  readonly checks: Readonly<Record<string, unknown>>;
}

/** Parts that routes call. */
export interface RouteContext {
  readonly version: string;
  readonly limits: ApiLimits;
  readonly clients: ClientRegistry;
  readonly tokens: AccessTokens;
  readonly signIn: SignIn;
  readonly functions: FunctionCatalogue;
  readonly endpoints: EndpointCatalogue;
  readonly registrar: EndpointRegistrar;
  readonly commands: EndpointCommands;
  readonly sharing: SharingServices;
  readonly topology: BrokerTopology;
  readonly tasks: TaskService;
  /** Where results go that are too large for a message; absent: nowhere. */
  readonly blobs?: ResultBlobs;
  readonly readiness: () => Promise<Readiness>;
  readonly logger: Logger;
}

/** The id in a route's path, canonical. @throws HubError 400 INVALID_UUID. */
export function pathId(request: FastifyRequest<{ Params: { id: string } }>, what: string): string {
  return requireUuid(request.params.id, what);
}
