/** Errors of the OAuth endpoints, in OAuth's own shape (RFC 6749, 5.2). */
import { ComputeError } from '../../base/errors.ts';

/** `error` values that our endpoints answer. */
export type OAuthErrorCode =
  | 'invalid_request'
  | 'invalid_client'
  | 'invalid_scope'
  | 'unauthorized_client'
  | 'unsupported_grant_type'
  // The sign-in of people (RFC 6749 4.1.2.1 and 5.2, RFC 8628 3.5).
  | 'invalid_grant'
  | 'access_denied'
  | 'unsupported_response_type'
  | 'authorization_pending'
  | 'slow_down'
  | 'expired_token';

/** A refused request at an OAuth endpoint. */
export class OAuthError extends ComputeError {
  readonly error: OAuthErrorCode;
  readonly httpStatus: number;

  constructor(error: OAuthErrorCode, description: string) {
    super(error.toUpperCase(), description, 77);
    this.error = error;
    this.httpStatus = error === 'invalid_client' ? 401 : 400;
  }
}
