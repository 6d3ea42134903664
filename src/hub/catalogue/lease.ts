/**
 * Who may hold an endpoint: the decision alone, without the database.
 *
 * A lease is renewed by heartbeats and judged in database time. It is granted when nobody holds it, to the very
 * process that holds it (its answer got lost), to a successor on the same host and boot that knows the current epoch
 * (it reads the same endpoint directory, whose lock keeps two from running), to the same host after a reboot, and to a takeover. Granting
 * means a new epoch, and with it new broker credentials; the older ones are revoked, which is the fence.
 */
import type { EndpointRegistration, LeaseHolder } from '../../protocol/rest.ts';

type LeaseRequest = NonNullable<EndpointRegistration['lease']>;

/** How long a lease lives without a heartbeat, in milliseconds: three of the longest usual periods. */
export const LEASE_TTL_MS = 90_000;

/** A holder as stored: with the time of the grant. */
export type StoredHolder = LeaseHolder & { readonly granted_at?: string };

/** The lease as it stands. */
export interface LeaseState {
  readonly epoch: number;
  /** Not expired, in database time. */
  readonly isHeld: boolean;
  /** null: an endpoint that knows nothing of leases. */
  readonly holder: StoredHolder | null;
}

/** Why a lease was refused, or that it is granted. */
export type LeaseDecision =
  { readonly isGranted: true } | { readonly isGranted: false; readonly heldBy: string };

function describeHolder(holder: StoredHolder | null): string {
  if (holder === null) {
    return 'an endpoint that told nothing about itself';
  }
  const since = holder.granted_at === undefined ? '' : ` since ${holder.granted_at}`;
  return `${holder.host} (pid ${holder.pid})${since}`;
}

/**
 * Whether the request comes from the holder itself, or from a process that could not run beside it: one on the same host and boot
 * that knows the current epoch reads the same endpoint directory, whose lock keeps two from running.
 */
export function isSuccessor(
  { epoch, holder }: Pick<LeaseState, 'epoch' | 'holder'>,
  request: EndpointRegistration['lease'],
): boolean {
  if (holder === null || request === undefined) {
    return false;
  }
  const isSameBoot =
    holder.host === request.holder.host && holder.boot_id === request.holder.boot_id;
  const isSameProcess =
    holder.pid === request.holder.pid && holder.start_ticks === request.holder.start_ticks;
  return isSameBoot && (isSameProcess || request.previous_epoch === epoch);
}

/**
 * Whether the holder's host has been booted again since: the holder is dead, and need not be waited for. Only the current epoch
 * counts as proof, because it stands in the endpoint's directory. Should two hosts of one name share a copy of it, the later one is
 * granted the lease, and the earlier one is fenced and says by whom.
 */
function isAfterReboot({ epoch, holder }: LeaseState, request: LeaseRequest): boolean {
  return (
    holder !== null &&
    holder.host === request.holder.host &&
    holder.boot_id !== request.holder.boot_id &&
    request.previous_epoch === epoch
  );
}

/** Decides about a request for the lease; `request` is absent for an endpoint that knows nothing of leases. */
export function decideLease(
  state: LeaseState,
  request: EndpointRegistration['lease'],
): LeaseDecision {
  const { holder } = state;
  if (!state.isHeld || request?.takeover === true) {
    return { isGranted: true };
  }
  if (request === undefined) {
    // Two originals cannot be told apart, and an original that restarts comes back like this. One of ours is not
    // fenced by a registration that does not even ask for the lease.
    return holder === null
      ? { isGranted: true }
      : { isGranted: false, heldBy: describeHolder(holder) };
  }
  if (isSuccessor(state, request) || isAfterReboot(state, request)) {
    return { isGranted: true };
  }
  return { isGranted: false, heldBy: describeHolder(holder) };
}
