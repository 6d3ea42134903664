/**
 * The audit trail: one line of the log for every change of who may use something, and for every submission that was refused for want of
 * a right. Constant messages; `audit` says which kind of line it is.
 */
import type { Logger } from '../../base/logger.ts';
import type { Caller } from '../auth/caller.ts';
import { HubError } from '../hub-error.ts';
import type { Thing } from './access-control.ts';

/** A change of sharing. */
export interface SharingAudit {
  readonly kind: Thing['kind'];
  readonly id: string;
  readonly isPublic: boolean;
  readonly sharedWith: readonly string[];
  readonly before: { readonly isPublic: boolean; readonly sharedWith: readonly string[] };
}

/** A change of a group. */
export interface GroupAudit {
  readonly groupId: string;
  readonly change:
    'created' | 'changed' | 'deleted' | 'added' | 'removed' | 'left' | 'role changed';
  readonly identityId?: string;
  readonly role?: string;
}

function who({ id, username, issuer }: Caller): Record<string, unknown> {
  return { callerId: id, username, ...(issuer === null ? {} : { issuer }) };
}

/** Notes who shares what with whom. */
export function auditSharing(logger: Logger, caller: Caller, change: SharingAudit): void {
  logger.info({ audit: 'sharing', ...who(caller), ...change }, 'sharing changed');
}

/** Notes who is in which group. */
export function auditGroup(logger: Logger, caller: Caller, change: GroupAudit): void {
  logger.info({ audit: 'group', ...who(caller), ...change }, 'group changed');
}

/** Notes a submission that was refused for want of a right; other errors are none of an auditor's business. */
export function auditRefusal(
  logger: Logger,
  caller: Caller,
  endpointId: string,
  error: unknown,
): void {
  if (error instanceof HubError && (error.httpStatus === 403 || error.httpStatus === 404)) {
    logger.warn(
      { audit: 'refusal', ...who(caller), endpointId, code: error.code, reason: error.detail },
      'submission refused',
    );
  }
}
