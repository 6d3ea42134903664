/** Signs a person in who sits at a terminal: shows an address and a code, and waits until they were used in some browser. */
import { sleep } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import { AuthError, UnavailableError } from '../../base/errors.ts';
import type { DeviceAuthorization, PersonTokenResponse } from '../../protocol/oauth.ts';
import type { PersonGrants } from '../../transport/oauth/person-grants.ts';

/** How to sign in at a terminal. */
export interface DeviceLoginOptions {
  readonly grants: PersonGrants;
  readonly scope: string;
  readonly clock: Clock;
  /** Shows the person where to go. */
  readonly show: (device: DeviceAuthorization) => void;
  readonly signal?: AbortSignal;
}

/** How much seldomer to ask after being told to slow down (RFC 8628, 3.5). */
const SLOWER_BY_MS = 5000;
const INTERVAL_S = 5;

/** Waits until the person let the terminal in. @throws AuthError TOKEN_REJECTED when they refused or did not come in time. */
export async function signInOnDevice(options: DeviceLoginOptions): Promise<PersonTokenResponse> {
  const { grants, clock, signal } = options;
  const device = await grants.authorizeDevice(options.scope, signal);
  const endsMs = clock.monotonicMs() + device.expires_in * 1000;
  options.show(device);
  let intervalMs = (typeof device.interval === 'number' ? device.interval : INTERVAL_S) * 1000;
  for (;;) {
    await sleep(clock, intervalMs, signal);
    try {
      const poll = await grants.pollDevice(device.device_code, signal);
      if (poll.state === 'granted') {
        return poll.tokens;
      }
      if (poll.state === 'slow-down') {
        intervalMs += SLOWER_BY_MS;
      }
    } catch (error) {
      // The person is at the browser, and the network or the hub may be back before they are done.
      if (!(error instanceof UnavailableError)) {
        throw error;
      }
      if (clock.monotonicMs() >= endsMs) {
        throw error;
      }
    }
    if (clock.monotonicMs() >= endsMs) {
      throw new AuthError(
        'TOKEN_REJECTED',
        `nobody used the code ${device.user_code} at ${device.verification_uri} in time. Begin again with: agent login`,
      );
    }
  }
}
