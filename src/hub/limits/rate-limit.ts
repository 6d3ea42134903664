/**
 * How many requests one identity may make, and how many an address may make without an identity.
 *
 *   who                        counted by             bound in one window
 *   signed in                  identity               requestsMax
 *   a route for anybody        address                addressRequestsMax
 *   asking for a device code   address, on its own    DEVICE_CODES_MAX: each one is a row until it expires
 *   health, OpenAPI, version   not at all
 *
 * The count is of this process and starts anew with each window: after the wait that Retry-After names a whole window is free.
 */
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance } from 'fastify';

import { HubError } from '../hub-error.ts';

/** Bounds of the rate; `0` is no bound. */
export interface RateLimits {
  /** Requests of one identity in a window. */
  readonly requestsMax: number;
  /** Requests of one address in a window, to routes that need no identity. */
  readonly addressRequestsMax: number;
  readonly windowMs: number;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `unlimited`: costs nothing, or must always answer. `device-codes`: leaves something behind. */
    rate?: 'unlimited' | 'device-codes';
  }
}

/** Device codes that one address may ask for in a window. */
const DEVICE_CODES_MAX = 20;
/** Identities and addresses that are counted at a time; who was not seen for longest is forgotten first. */
const COUNTED_MAX = 20_000;

const IDENTITY_SETTING = 'OUTPOST_HUB_RATE_LIMIT';
const ADDRESS_SETTING = 'OUTPOST_HUB_RATE_LIMIT_ADDRESS';

/** Counts the requests of every route that is added from now on. Needs `authenticateRoutes` before it. */
export async function limitRates(app: FastifyInstance, limits: RateLimits): Promise<void> {
  const { requestsMax, addressRequestsMax, windowMs } = limits;
  const boundOf = (isSignedIn: boolean): number => {
    const max = isSignedIn ? requestsMax : addressRequestsMax;
    return max === 0 ? Infinity : max;
  };
  app.addHook('onRoute', (route) => {
    const { rate } = route.config ?? {};
    if (rate === 'unlimited') {
      route.config = { ...route.config, rateLimit: false };
    } else if (rate === 'device-codes' && addressRequestsMax > 0) {
      const max = Math.min(DEVICE_CODES_MAX, addressRequestsMax);
      route.config = { ...route.config, rateLimit: { max, timeWindow: windowMs } };
    }
  });
  await app.register(rateLimit, {
    timeWindow: windowMs,
    cache: COUNTED_MAX,
    max: (request) => boundOf(request.caller !== null),
    allowList: (request) => boundOf(request.caller !== null) === Infinity,
    keyGenerator: (request) =>
      // A network of IPv6 is one address: whoever has one address in it has them all.
      request.caller === null
        ? `address ${rateLimit.normalizeIP(request.ip)}`
        : `identity ${request.caller.id}`,
    errorResponseBuilder: (request, { max, ttl }) => {
      const isSignedIn = request.caller !== null;
      const who = isSignedIn ? 'this identity' : 'this address';
      const setting = isSignedIn ? IDENTITY_SETTING : ADDRESS_SETTING;
      return new HubError(
        429,
        'TOO_MANY_REQUESTS',
        `${who} has made its ${max} requests of ${windowMs / 1000} s; try again in ${Math.ceil(ttl / 1000)} s, ` +
          `send many tasks in one request, or ask the operator of the hub to raise ${setting}`,
      );
    },
  });
}
