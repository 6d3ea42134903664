/**
 * What both sides of the sign-in of people must agree on: applications, scopes, grants (protocol.md 2.4 to 2.7).
 */
import type { TokenResponse } from './rest.ts';

/** The application that `agent login` and the TypeScript SDK are: it has no secret (RFC 8252). */
export const OUTPOST_APP_ID = '7c1de0a4-53b8-4f0c-9d5e-0b6f2f3a6c11';
/** The application that the Globus Compute SDK is when it is told nothing else. */
export const GLOBUS_COMPUTE_APP_ID = '4cf29807-cf21-49ec-9443-ff9a3fb9f81c';

const URN = 'urn:globus:auth:scope';

/** Resource server of the groups scopes. */
export const GROUPS_RESOURCE_SERVER = 'groups.api.globus.org';
/** Groups of the caller, and their administration. */
export const GROUPS_SCOPE = `${URN}:${GROUPS_RESOURCE_SERVER}:all`;
/** The groups of the caller, to be looked at. */
export const VIEW_GROUPS_SCOPE = `${URN}:${GROUPS_RESOURCE_SERVER}:view_my_groups_and_memberships`;

/** Resource server of the search scopes. */
export const SEARCH_RESOURCE_SERVER = 'search.api.globus.org';
/** Search among functions. */
export const SEARCH_SCOPE = `${URN}:${SEARCH_RESOURCE_SERVER}:all`;
/** Search, and nothing else. */
export const SEARCH_ONLY_SCOPE = `${URN}:${SEARCH_RESOURCE_SERVER}:search`;

/** Grant of a device that has no browser (RFC 8628). */
export const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';

/** Tokens of a person who signed in: what a client gets, and a refresh token with each. */
export interface PersonTokenResponse extends Omit<TokenResponse, 'other_tokens'> {
  readonly refresh_token: string;
  /** Who signed in; only for those who asked for `openid`, and only at the login itself. */
  readonly id_token?: string;
  readonly other_tokens: readonly Omit<PersonTokenResponse, 'other_tokens' | 'id_token'>[];
}

/** Answer to a device that asks to be let in (RFC 8628, 3.2). */
export interface DeviceAuthorization {
  readonly device_code: string;
  readonly user_code: string;
  readonly verification_uri: string;
  readonly verification_uri_complete: string;
  readonly expires_in: number;
  readonly interval: number;
}
