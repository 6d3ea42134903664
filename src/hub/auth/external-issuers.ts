/**
 * People whom another issuer signs in (OpenID Connect): its signed tokens are taken as they are, by discovery and its key set.
 *
 * A token counts when a configured issuer signed it for the configured audience and it is not expired. Whom it is about is made an
 * identity at first sight; which groups they belong to is read from the token each time. What was found is remembered for 30
 * seconds. An issuer that cannot be asked for its keys is a 503, never a 401: a client would throw a good token away.
 */
import { createRemoteJWKSet, customFetch, decodeJwt, errors, jwtVerify } from 'jose';
import type { JWTPayload, RemoteJWKSet } from 'jose';

import type { Clock } from '../../base/clock.ts';
import { ConflictError, UnavailableError, errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { HttpTransport } from '../../transport/http/http-transport.ts';
import { BoundedCache } from '../bounded-cache.ts';
import { HubError } from '../hub-error.ts';
import type { Caller, TokenFreshness } from './caller.ts';
import { tokenHash } from './opaque-token.ts';
import type { ForeignIdentity, PeopleRegistry, Person } from './people.ts';
import { ALL_SCOPES } from './scopes.ts';

/** An issuer that is trusted to say who people are. */
export interface ExternalIssuer {
  /** As in its tokens, to the letter. */
  readonly issuer: string;
  /** Whom its tokens must be for: this hub. */
  readonly audience: string;
  /** Claim with a name that is unique at the issuer. */
  readonly usernameClaim: string;
  /** Claim with the names of the groups of the person; none when undefined. */
  readonly groupsClaim: string | undefined;
  /** Stands behind the @ of its usernames. */
  readonly domain: string;
}

/** Parts of {@link ExternalIssuers}. */
export interface ExternalIssuersOptions {
  readonly issuers: readonly ExternalIssuer[];
  readonly people: PeopleRegistry;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Authorities that are trusted beside the system's (PEM). */
  readonly ca?: string;
  /** How long after its keys were fetched an unknown one does not make them be fetched again. @defaultValue 30 s */
  readonly keysCooldownMs?: number;
}

/** Only keys that the issuer alone has can sign. */
const ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
];
const CLOCK_TOLERANCE_S = 60;
const FOUND_TTL_MS = 30_000;
const FOUND_MAX = 10_000;
const GROUPS_MAX = 1000;
const FETCH = { timeoutMs: 5000, retries: 1 } as const;
const KEYS_COOLDOWN_MS = 30_000;

interface FoundCaller {
  readonly caller: Caller;
  readonly expiresAtMs: number;
}

/** Recognises tokens of the configured issuers. */
export class ExternalIssuers {
  readonly #options: ExternalIssuersOptions;
  readonly #transport: HttpTransport;
  readonly #keys = new Map<string, Promise<RemoteJWKSet>>();
  readonly #found: BoundedCache<FoundCaller>;

  constructor(options: ExternalIssuersOptions) {
    const { clock, ca } = options;
    this.#options = options;
    this.#transport = new HttpTransport({
      serverName: 'the issuer',
      clock,
      ...FETCH,
      ...(ca === undefined ? {} : { ca }),
    });
    this.#found = new BoundedCache({ clock, ttlMs: FOUND_TTL_MS, weightMax: FOUND_MAX });
  }

  /** Who presents this token; undefined when it is not one of a configured issuer, or not valid. @throws HubError 503 ISSUER_UNREACHABLE. */
  async callerOf(
    token: string,
    freshness: TokenFreshness = 'remembered',
  ): Promise<Caller | undefined> {
    if (this.#options.issuers.length === 0 || token.split('.').length !== 3) {
      return undefined;
    }
    const tokenKey = tokenHash(token).toString('base64');
    const known = freshness === 'remembered' ? this.#found.get(tokenKey) : undefined;
    if (known !== undefined && known.expiresAtMs > this.#options.clock.now()) {
      return known.caller;
    }
    const issuer = this.#issuerOf(token);
    if (issuer === undefined) {
      return undefined;
    }
    const claims = await this.#verified(issuer, token);
    const subject = textOf(claims?.sub);
    if (claims?.exp === undefined || subject === undefined) {
      return undefined;
    }
    const caller = await this.#callerFrom(issuer, claims, subject, tokenKey);
    if (caller !== undefined) {
      const expiresAtMs = (claims.exp + CLOCK_TOLERANCE_S) * 1000;
      this.#found.set(tokenKey, { caller, expiresAtMs });
    }
    return caller;
  }

  /** The issuer that the token claims to be of; nothing in it is believed yet. */
  #issuerOf(token: string): ExternalIssuer | undefined {
    try {
      const { iss } = decodeJwt(token);
      return this.#options.issuers.find(({ issuer }) => issuer === iss);
    } catch (error) {
      this.#options.logger.debug({ err: error }, 'a bearer token with two dots is no JWT');
      return undefined;
    }
  }

  async #verified(issuer: ExternalIssuer, token: string): Promise<JWTPayload | undefined> {
    const { clock, logger } = this.#options;
    try {
      const { payload } = await jwtVerify(token, await this.#keySet(issuer), {
        issuer: issuer.issuer,
        audience: issuer.audience,
        algorithms: ALGORITHMS,
        clockTolerance: CLOCK_TOLERANCE_S,
        currentDate: new Date(clock.now()),
        requiredClaims: ['sub', 'exp'],
      });
      return payload;
    } catch (error) {
      if (isUnreachable(error)) {
        logger.warn(
          { err: error, issuer: issuer.issuer },
          'an issuer cannot be asked for its keys',
        );
        throw new HubError(
          503,
          'ISSUER_UNREACHABLE',
          `the hub cannot ask ${issuer.issuer}, which issued this token, for its keys: ${errorText(error)}. The token may be good: try again later`,
          { cause: error },
        );
      }
      if (error instanceof errors.JOSEError) {
        logger.info({ err: error, issuer: issuer.issuer }, 'refused the token of an issuer');
        return undefined;
      }
      throw error;
    }
  }

  async #callerFrom(
    issuer: ExternalIssuer,
    claims: JWTPayload,
    subject: string,
    tokenKey: string,
  ): Promise<Caller | undefined> {
    const claimed = textOf(claims[issuer.usernameClaim]);
    if (claimed === undefined) {
      throw new HubError(
        403,
        'USERNAME_CLAIM_MISSING',
        `the token of ${issuer.issuer} has no claim ${issuer.usernameClaim} with a name in it; ask the administrator of the hub to name another claim, or that of the issuer to add it`,
      );
    }
    const person = await this.#recognised({
      issuer: issuer.issuer,
      subject,
      username: qualified(claimed, issuer.domain),
      name: textOf(claims['name']) ?? claimed,
      email: textOf(claims['email']) ?? null,
    });
    if (person.isDisabled) {
      return undefined;
    }
    const { id, username, name, email } = person;
    return {
      id,
      kind: 'person',
      name,
      username,
      email,
      issuer: issuer.issuer,
      groupsFromClaim: groupsOf(issuer, claims),
      endpointOnly: false,
      scopes: ALL_SCOPES,
      tokenKey,
    };
  }

  async #recognised(identity: ForeignIdentity): Promise<Person> {
    try {
      return await this.#options.people.recognise(identity);
    } catch (error) {
      if (error instanceof ConflictError) {
        throw new HubError(
          409,
          'RESOURCE_CONFLICT',
          `${error.message} Whoever had the name before keeps it until they sign in under another one; ask the administrator of the issuer`,
          { cause: error },
        );
      }
      throw error;
    }
  }

  async #keySet(issuer: ExternalIssuer): Promise<RemoteJWKSet> {
    let keys = this.#keys.get(issuer.issuer);
    if (keys === undefined) {
      keys = this.#discover(issuer).catch((error: unknown) => {
        // The next token tries again.
        this.#keys.delete(issuer.issuer);
        throw error;
      });
      this.#keys.set(issuer.issuer, keys);
    }
    return await keys;
  }

  async #discover({ issuer }: ExternalIssuer): Promise<RemoteJWKSet> {
    const url = new URL(`${issuer.replace(/\/+$/, '')}/.well-known/openid-configuration`);
    const document: unknown = await (await this.#fetch(url.href)).json();
    const { issuer: named, jwks_uri: keysUrl } = document as Record<string, unknown>;
    if (named !== issuer || typeof keysUrl !== 'string' || !URL.canParse(keysUrl)) {
      throw new UnavailableError(
        'HUB_UNREACHABLE',
        `${url.href} does not describe the issuer ${issuer}; check OUTPOST_OIDC_ISSUERS against what it says there`,
      );
    }
    return createRemoteJWKSet(new URL(keysUrl), {
      cooldownDuration: this.#options.keysCooldownMs ?? KEYS_COOLDOWN_MS,
      // The transport has the time-out; this one must not come first.
      timeoutDuration: 4 * FETCH.timeoutMs,
      [customFetch]: async (keysHref, { signal }) => await this.#fetch(keysHref, signal),
    });
  }

  /** Whatever is not the document is the issuer's failure, and none of the token. */
  async #fetch(href: string, signal?: AbortSignal): Promise<Response> {
    const reply = await this.#transport.send({
      method: 'GET',
      url: new URL(href),
      idempotent: true,
      ...(signal === undefined ? {} : { signal }),
    });
    if (reply.status !== 200 || !isJsonObject(reply.text)) {
      throw new UnavailableError(
        'HUB_UNREACHABLE',
        `${href} answered ${reply.status} without the document that was asked for`,
      );
    }
    return new Response(reply.text, { headers: { 'content-type': 'application/json' } });
  }
}

function isUnreachable(error: unknown): boolean {
  return (
    error instanceof UnavailableError ||
    error instanceof errors.JWKSTimeout ||
    error instanceof errors.JWKSInvalid
  );
}

function isJsonObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    // The page of a proxy, for one; whoever asked says so.
    return false;
  }
}

/** No issuer can name somebody of another one, or of the hub's own. */
function qualified(name: string, domain: string): string {
  return name.toLowerCase().endsWith(`@${domain.toLowerCase()}`) ? name : `${name}@${domain}`;
}

function textOf(claim: unknown): string | undefined {
  return typeof claim === 'string' && claim !== '' && claim.length <= 256 ? claim : undefined;
}

function groupsOf({ groupsClaim }: ExternalIssuer, claims: JWTPayload): readonly string[] {
  const claim = groupsClaim === undefined ? undefined : claims[groupsClaim];
  const groups = Array.isArray(claim) ? (claim as readonly unknown[]) : [claim];
  return groups.flatMap((group) => textOf(group) ?? []).slice(0, GROUPS_MAX);
}
