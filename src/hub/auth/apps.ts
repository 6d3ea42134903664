/**
 * Applications that people sign in with: programs on their own machines, which cannot keep a secret (RFC 8252). Anybody may claim to
 * be one of them, therefore a code goes only where nobody else listens: to this machine's loopback, or onto the hub's own page from
 * which the person copies it. PKCE does the rest.
 */
import { GLOBUS_COMPUTE_APP_ID, OUTPOST_APP_ID } from '../../protocol/oauth.ts';
import { isLoopback } from '../../transport/http/secure-url.ts';
import { OAuthError } from './oauth-error.ts';

/** Path of the page that shows a code to be copied (protocol.md 2.6). */
export const CODE_PAGE_PATH = '/v2/web/auth-code';

const NAME_OF: ReadonlyMap<string, string> = new Map([
  [OUTPOST_APP_ID, 'Outpost command line and SDK'],
  [GLOBUS_COMPUTE_APP_ID, 'Globus Compute SDK'],
]);

/** An application. */
export interface App {
  readonly id: string;
  readonly name: string;
}

/** The application with this id. @throws OAuthError invalid_client. */
export function requireApp(clientId: unknown): App {
  const id = typeof clientId === 'string' ? clientId.toLowerCase() : '';
  const name = NAME_OF.get(id);
  if (name === undefined) {
    throw new OAuthError(
      'invalid_client',
      'the client_id is not that of an application that people may sign in with at this hub; leave GLOBUS_COMPUTE_CLIENT_ID unset',
    );
  }
  return { id, name };
}

/** Whether a code may be sent there; `hubOrigins` are those under which this hub is known. */
export function isAllowedRedirect(redirectUri: string, hubOrigins: readonly string[]): boolean {
  if (!URL.canParse(redirectUri) || redirectUri.length > 2048) {
    return false;
  }
  const url = new URL(redirectUri);
  if (url.hash !== '' || url.username !== '' || url.password !== '') {
    return false;
  }
  if (url.protocol === 'http:' && isLoopback(url.hostname)) {
    return true;
  }
  return hubOrigins.includes(url.origin) && url.pathname === CODE_PAGE_PATH;
}
