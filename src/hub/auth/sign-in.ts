/** Everything that signs people in, put together for the routes. */
import type { Kysely } from 'kysely';

import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { HubDatabase } from '../db/schema.ts';
import type { AccessTokens } from './access-tokens.ts';
import { AuthorizationCodes } from './authorization-codes.ts';
import type { Caller, TokenFreshness } from './caller.ts';
import { DeviceCodes } from './device-codes.ts';
import { ExternalIssuers } from './external-issuers.ts';
import type { ExternalIssuer } from './external-issuers.ts';
import { IdTokens } from './id-tokens.ts';
import { IdentityDirectory } from './identities.ts';
import { LoginThrottle } from './login-throttle.ts';
import { PeopleRegistry } from './people.ts';
import { PersonLogins } from './person-logins.ts';

/** Parts of {@link createSignIn}. */
export interface SignInOptions {
  readonly db: Kysely<HubDatabase>;
  readonly tokens: AccessTokens;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where others reach the hub, without a slash at the end; what each caller dialled when undefined. */
  readonly publicUrl?: string;
  readonly issuers?: readonly ExternalIssuer[];
  /** Authorities of the issuers that are trusted beside the system's (PEM). */
  readonly ca?: string;
  readonly keysCooldownMs?: number;
}

/** What signs people in. */
export interface SignIn {
  readonly publicUrl: string | undefined;
  readonly people: PeopleRegistry;
  readonly identities: IdentityDirectory;
  readonly logins: PersonLogins;
  readonly codes: AuthorizationCodes;
  readonly devices: DeviceCodes;
  readonly idTokens: IdTokens;
  readonly throttle: LoginThrottle;
  /** Who presents a token, whoever issued it. @throws HubError 503 ISSUER_UNREACHABLE. */
  callerOf: (token: string, freshness?: TokenFreshness) => Promise<Caller | undefined>;
}

/** Puts the parts together. */
export function createSignIn(options: SignInOptions): SignIn {
  const { db, tokens, clock, logger, ca, keysCooldownMs } = options;
  const people = new PeopleRegistry(db);
  const logins = new PersonLogins(db, tokens);
  const issuers = new ExternalIssuers({
    issuers: options.issuers ?? [],
    people,
    clock,
    logger,
    ...(ca === undefined ? {} : { ca }),
    ...(keysCooldownMs === undefined ? {} : { keysCooldownMs }),
  });
  return {
    publicUrl: options.publicUrl,
    people,
    identities: new IdentityDirectory(db),
    logins,
    codes: new AuthorizationCodes(db, logins),
    devices: new DeviceCodes(db, logins),
    idTokens: new IdTokens(db, clock),
    throttle: new LoginThrottle(clock),
    // Ours have no dots: one look tells them apart.
    callerOf: async (token, freshness) =>
      token.includes('.')
        ? await issuers.callerOf(token, freshness)
        : await tokens.callerOf(token, freshness),
  };
}
