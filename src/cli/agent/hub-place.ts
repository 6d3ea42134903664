/** The hub that a command talks to, how long it tries, and how client credentials become tokens there. */
import { systemClock } from '../../base/clock.ts';
import { packageVersion } from '../../base/package-root.ts';
import type { AgentConfig } from '../../config/agent-config.ts';
import type { Credentials } from '../../config/credentials.ts';
import { COMPUTE_SCOPE } from '../../protocol/rest.ts';
import { clientCredentialsTokenSource } from '../../transport/oauth/client-credentials.ts';
import type { TokenSource } from '../../transport/oauth/client-credentials.ts';

/** How we name ourselves to the hub. */
export function userAgent(): string {
  return `outpost-agent/${packageVersion()}`;
}

/** How long, and how often, a command tries. */
export interface CommandLimits {
  readonly timeoutMs: number;
  readonly retries: number;
}

/** Limits for a command that somebody waits for: it says what is wrong rather than trying for long. */
export const COMMAND_LIMITS: CommandLimits = { timeoutMs: 10_000, retries: 1 };

/** Where the hub is, and whose certificates are trusted beside the system's. */
export type HubPlace = Pick<AgentConfig, 'hubUrl' | 'ca'>;

/** What tokens are for, and how long it is tried to get them. */
export interface TokenRequest extends Partial<CommandLimits> {
  /** @defaultValue that of Compute */
  readonly scope?: string;
}

/** Access tokens for credentials at a hub; the secret is read again for each grant. */
export function clientTokens(
  { hubUrl, ca }: HubPlace,
  credentials: Credentials,
  options: TokenRequest = {},
): TokenSource {
  return clientCredentialsTokenSource({
    tokenEndpoint: `${hubUrl}/v2/oauth2/token`,
    clientId: credentials.clientId,
    clientSecret: async () => (await credentials.clientSecret()).reveal(),
    scope: COMPUTE_SCOPE,
    clock: systemClock,
    userAgent: userAgent(),
    ...(ca !== undefined && { ca }),
    ...options,
  });
}
