/** Whether the hub, too, sees an endpoint as online that has just come online. The agent's own word counts; a slow hub is only mentioned. */
import { sleep, systemClock } from '../../base/clock.ts';
import { ComputeError } from '../../base/errors.ts';
import type { HubClient } from '../../client/hub-client.ts';

/** How long the hub may take to say `online` after the agent has. */
const HUB_CONFIRM_MS = 2_000;
const HUB_POLL_MS = 100;

/** Limits of a client that asks. */
export const CONFIRM_LIMITS = { timeoutMs: HUB_CONFIRM_MS, retries: 0 } as const;

/** What the hub says. */
export interface HubView {
  readonly status: 'online' | 'offline' | 'unknown';
  /** For people. */
  readonly note?: string;
}

/** Asks until the hub agrees, for a short while. */
export async function hubView(hub: HubClient, endpointId: string): Promise<HubView> {
  const deadlineMs = systemClock.monotonicMs() + HUB_CONFIRM_MS;
  try {
    for (;;) {
      const { status } = await hub.endpointStatus(endpointId);
      if (status === 'online') {
        return { status };
      }
      if (systemClock.monotonicMs() > deadlineMs) {
        const note =
          'Note: the hub does not show it as online yet; it does when the next heartbeat has arrived.';
        return { status, note };
      }
      await sleep(systemClock, HUB_POLL_MS);
    }
  } catch (error) {
    if (!(error instanceof ComputeError)) {
      throw error;
    }
    return {
      status: 'unknown',
      note: `Note: the hub could not be asked for its view: ${error.message}`,
    };
  }
}
