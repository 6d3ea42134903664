/** What the routes work with, and the settings that bound them. */
import type { FastifyRequest } from 'fastify';

import type { Logger } from '../../base/logger.ts';
import type { AccessTokens } from '../auth/access-tokens.ts';
import type { ClientRegistry } from '../auth/client-registry.ts';
import type { SignIn } from '../auth/sign-in.ts';
import type { BrokerTopology } from '../broker/topology.ts';
import type { EndpointCatalogue } from '../catalogue/endpoint-catalogue.ts';
import type { EndpointRegistrar } from '../catalogue/endpoint-registrar.ts';
import type { FunctionCatalogue } from '../catalogue/function-catalogue.ts';
import type { SharingServices } from '../groups/sharing-services.ts';
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
  readonly sharing: SharingServices;
  readonly topology: BrokerTopology;
  readonly tasks: TaskService;
  readonly readiness: () => Promise<Readiness>;
  readonly logger: Logger;
}

/** The id in a route's path, canonical. @throws HubError 400 INVALID_UUID. */
export function pathId(request: FastifyRequest<{ Params: { id: string } }>, what: string): string {
  return requireUuid(request.params.id, what);
}
