/** Starting an endpoint, for `agent start` and `agent restart`: everything that can be checked is checked before a process is made. */
import { sleep, systemClock } from '../../base/clock.ts';
import { ComputeError, ConflictError } from '../../base/errors.ts';
import type { HubClient } from '../../client/hub-client.ts';
import type { ResolvedAgentConfig } from '../../config/agent-config.ts';
import { findCredentials } from '../../config/credentials.ts';
import type { Credentials } from '../../config/credentials.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import { problemsTogether } from '../../config/problems-together.ts';
import { checkCertificate, tlsPeer } from '../../transport/tls/certificate-refused.ts';
import { printJson, printLine, printNote } from '../output.ts';
import type { StartProgress } from './agent-process.ts';
import { startInBackground } from './background.ts';
import type { OnlineAgent } from './background.ts';
import { elsewhereText, isHolder, lookElsewhere } from './elsewhere.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { commandHubClient, tokenSource } from './hub-access.ts';
import type { HubPlace } from './hub-access.ts';
import { findPresence, refuseWhenRunning } from './presence.ts';

/** An endpoint whose settings and credentials are in order. */
export interface PreparedStart {
  readonly context: EndpointContext;
  readonly resolved: ResolvedAgentConfig;
  readonly credentials: Credentials;
  readonly flags: Readonly<Record<string, unknown>>;
}

/** How to start. */
export interface StartOptions {
  readonly takeover: boolean;
  readonly timeoutMs: number;
  readonly json: boolean;
}

/** How long the hub may take to say `online` after the agent has. */
const HUB_CONFIRM_MS = 2_000;
const HUB_POLL_MS = 100;
const CONFIRM_LIMITS = { timeoutMs: HUB_CONFIRM_MS, retries: 0 } as const;

/** Reads settings and credentials. @throws ComputeError with what is wrong. */
export async function prepareStart(
  context: EndpointContext,
  flags: Readonly<Record<string, unknown>>,
): Promise<PreparedStart> {
  const { directory, environment } = context;
  const { dotenvPath } = directory;
  const [resolved, credentials] = await problemsTogether([
    async () => await loadAgentConfig(directory, environment, flags),
    async () => await findCredentials({ environment, dotenvPath }),
  ]);
  return { context, resolved, credentials, flags };
}

/** Starts in the background, waits until it is online, and says so. */
export async function startEndpoint(
  prepared: PreparedStart,
  options: StartOptions,
): Promise<number> {
  const { context, credentials, resolved, flags } = prepared;
  const { name } = context.directory;
  await refuseWhenRunning(context.directory);
  await lookAtOtherHost(context, options.takeover);
  await checkHubCertificate(resolved.config);
  for (const warning of credentials.warnings) {
    printNote(`Note: ${warning}`);
  }
  for (const notice of resolved.config.notices) {
    printNote(`Warning: ${notice}`);
  }
  const startedMs = systemClock.monotonicMs();
  const tokens = tokenSource(resolved.config, credentials, CONFIRM_LIMITS);
  // While the agent starts. What is wrong with the credentials the agent finds out, too, and says.
  const isSignedIn = tokens.accessToken().then(Boolean, () => false);
  const agent = await startInBackground(
    context,
    {
      flags,
      takeover: options.takeover,
      ...(credentials.handOver && {
        credentials: {
          clientId: credentials.clientId,
          clientSecret: (await credentials.clientSecret()).reveal(),
          source: credentials.source,
        },
      }),
    },
    options.timeoutMs,
    options.json ? () => undefined : showProgress(name),
  );
  await isSignedIn;
  const hub = await hubAgrees(
    commandHubClient(resolved.config, credentials, CONFIRM_LIMITS, tokens),
    agent,
  );
  if (options.json) {
    printJson({
      name,
      endpoint_id: agent.endpointId,
      pid: agent.pid,
      state: 'online',
      hub_status: hub.status,
    });
    return 0;
  }
  const tookMs = systemClock.monotonicMs() - startedMs;
  printLine(
    `Endpoint ${name} is online (id ${agent.endpointId}, process ${agent.pid}, ${(tookMs / 1000).toFixed(1)} s).`,
  );
  if (hub.note !== undefined) {
    printNote(hub.note);
  }
  return 0;
}

/**
 * A lock of another host: when the hub says that its process still runs the endpoint, there is nothing to start. When the hub cannot be
 * asked or the lease has ended, the agent goes on; the hub decides when it registers.
 *
 * @throws ConflictError ALREADY_RUNNING.
 */
async function lookAtOtherHost(context: EndpointContext, takeover: boolean): Promise<void> {
  const { directory } = context;
  const presence = await findPresence(directory);
  if (presence.kind !== 'elsewhere') {
    return;
  }
  const { name } = directory;
  const { holder } = presence;
  const lease = await lookElsewhere(context, holder);
  const text = elsewhereText(holder, lease);
  if (!takeover && lease !== undefined && isHolder(lease, holder)) {
    throw new ConflictError(
      'ALREADY_RUNNING',
      `Endpoint ${name} is ${text} (process ${holder.pid}). To end it from here: agent stop ${name}. ` +
        `To take it over, also when ${holder.host} is gone: agent start ${name} --takeover`,
      { details: { host: holder.host, pid: holder.pid, since: holder.since } },
    );
  }
  printNote(`Note: it was ${text}.`);
}

/** The agent would try for ever, since a certificate can be renewed; whoever waits at a terminal wants to know. */
async function checkHubCertificate({ hubUrl, ca }: HubPlace): Promise<void> {
  const url = new URL(hubUrl);
  if (url.protocol === 'https:') {
    await checkCertificate(tlsPeer('the hub', url, 443), ca);
  }
}

/** Notes about progress, on a terminal only. */
function showProgress(name: string): (progress: StartProgress) => void {
  return (progress) => {
    if (!process.stderr.isTTY) {
      return;
    }
    if (progress.state === 'registering') {
      printNote(`Starting endpoint ${name} (process ${progress.pid}) …`);
    } else if (progress.state === 'connecting') {
      printNote(`Registered as ${progress.endpointId}, connecting to the broker …`);
    }
  };
}

/** Asks the hub whether it sees the endpoint too. The agent's own word counts; a hub that is slow is only mentioned. */
async function hubAgrees(
  hub: HubClient,
  { endpointId }: OnlineAgent,
): Promise<{ status: 'online' | 'offline' | 'unknown'; note?: string }> {
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
