/**
 * How a client says who it is at the token endpoint: HTTP Basic or, less well, in the form (RFC 6749, 2.3.1).
 */
import { OAuthError } from './oauth-error.ts';

/** Id and secret as presented, unchecked. */
export interface PresentedCredentials {
  readonly id: string;
  readonly secret: string;
}

/** Both halves of a Basic header are form-encoded; a library that encodes `-` as `%2D` is within its rights. */
function formDecode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch (error) {
    if (error instanceof URIError) {
      throw new OAuthError('invalid_client', 'the Basic credentials are not form-encoded');
    }
    throw error;
  }
}

/** Reads the credentials. @throws OAuthError invalid_client or invalid_request. */
export function presentedCredentials(
  authorization: string | undefined,
  form: Readonly<Record<string, unknown>>,
): PresentedCredentials {
  const { client_id: formId, client_secret: formSecret } = form;
  const basic = /^basic +([a-z0-9+/=_-]+)$/i.exec(authorization ?? '');
  if (basic?.[1] !== undefined) {
    if (typeof formSecret === 'string') {
      throw new OAuthError(
        'invalid_request',
        'the client authenticated twice, in the header and in the form; use one',
      );
    }
    const text = Buffer.from(basic[1], 'base64').toString('utf8');
    const colon = text.indexOf(':');
    if (colon === -1) {
      throw new OAuthError('invalid_client', 'the Basic credentials hold no colon');
    }
    return { id: formDecode(text.slice(0, colon)), secret: formDecode(text.slice(colon + 1)) };
  }
  if (typeof formId !== 'string' || typeof formSecret !== 'string') {
    throw new OAuthError(
      'invalid_client',
      'no client credentials: send the client id and secret as HTTP Basic authentication',
    );
  }
  return { id: formId, secret: formSecret };
}
