/**
 * Issuers of OpenID Connect whose tokens the hub takes:
 *
 *   [{ "issuer": "https://login.uni.example", "audience": "outpost",
 *      "username_claim": "preferred_username", "groups_claim": "groups", "domain": "uni.example" }]
 *
 * The last three may be left out. No issuer can name the people of another, so no two may have one domain.
 */
import { errorText } from '../base/errors.ts';

/** One issuer. */
export interface OidcIssuer {
  /** As in its tokens, to the letter. */
  readonly issuer: string;
  readonly audience: string;
  readonly usernameClaim: string;
  readonly groupsClaim: string | undefined;
  /** Stands behind the @ of its usernames. */
  readonly domain: string;
}

/** The issuers, or what was expected instead. */
export type OidcIssuersReading =
  { readonly issuers: readonly OidcIssuer[] } | { readonly expected: string };

const KEYS = ['issuer', 'audience', 'username_claim', 'groups_claim', 'domain'];
/** Usernames of clients end with it. */
const RESERVED_DOMAIN = 'clients.outpost';

/** Reads the list. Never throws. */
export function parseOidcIssuers(text: string): OidcIssuersReading {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { expected: `a list of issuers as JSON; ${errorText(error)}` };
  }
  if (!Array.isArray(value)) {
    return { expected: 'a list of issuers as JSON: [{"issuer": "https://…", "audience": "…"}]' };
  }
  const issuers: OidcIssuer[] = [];
  for (const [index, entry] of (value as readonly unknown[]).entries()) {
    const problem = entryProblem(entry, issuers);
    if (problem !== undefined) {
      return { expected: `${problem} (issuer number ${index + 1})` };
    }
    issuers.push(toIssuer(entry as Readonly<Record<string, string>>));
  }
  return { issuers };
}

function entryProblem(entry: unknown, before: readonly OidcIssuer[]): string | undefined {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) {
    return 'every issuer to be an object';
  }
  for (const [key, value] of Object.entries(entry)) {
    if (!KEYS.includes(key)) {
      return `no key ${JSON.stringify(key)}, but ${KEYS.join(', ')}`;
    }
    if (typeof value !== 'string' || value === '') {
      return `${key} to be a text`;
    }
  }
  const { issuer = '', audience = '' } = entry as Readonly<Record<string, string>>;
  if (!URL.canParse(issuer) || !isProtected(new URL(issuer))) {
    return 'issuer to be the URL that its tokens name, with https:// (http:// on this machine only)';
  }
  if (audience === '') {
    return 'audience to be set: without it a token that was made for another service would be taken';
  }
  const { domain } = toIssuer(entry as Readonly<Record<string, string>>);
  if (domain === RESERVED_DOMAIN || /[@\s]/.test(domain)) {
    return `domain to be a domain other than ${RESERVED_DOMAIN}`;
  }
  return before.some((other) => other.issuer === issuer || other.domain === domain)
    ? 'every issuer once, with a domain of its own'
    : undefined;
}

function isProtected({ protocol, hostname }: URL): boolean {
  const isHere =
    hostname === 'localhost' || hostname === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(hostname);
  return protocol === 'https:' || (protocol === 'http:' && isHere);
}

function toIssuer(entry: Readonly<Record<string, string>>): OidcIssuer {
  const { issuer = '', audience = '' } = entry;
  return {
    issuer,
    audience,
    usernameClaim: entry['username_claim'] ?? 'preferred_username',
    groupsClaim: entry['groups_claim'],
    domain: (entry['domain'] ?? new URL(issuer).hostname).toLowerCase(),
  };
}
