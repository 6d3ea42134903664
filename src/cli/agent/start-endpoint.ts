/** Starting an endpoint, for `agent start` and `agent restart`: everything that can be checked is checked before a process is made. */
import { systemClock } from '../../base/clock.ts';
import { ConflictError } from '../../base/errors.ts';
import type { ResolvedAgentConfig } from '../../config/agent-config.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import { problemsTogether } from '../../config/problems-together.ts';
import { printJson, printLine, printNote } from '../output.ts';
import { startInBackground } from './background.ts';
import type { Handover, StartReport } from './daemon-channel.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import type { HubPlace } from './hub-place.ts';
import { findPresence, refuseWhenRunning } from './presence.ts';
import { findSignIn } from './sign-in.ts';
import type { SignIn } from './sign-in.ts';

/** An endpoint whose settings and credentials are in order. */
export interface PreparedStart {
  readonly context: EndpointContext;
  readonly resolved: ResolvedAgentConfig;
  readonly signIn: SignIn;
  readonly flags: Readonly<Record<string, unknown>>;
}

/** How to start. */
export interface StartOptions {
  readonly takeover: boolean;
  readonly timeoutMs: number;
  readonly json: boolean;
}

/** Reads settings and credentials. @throws ComputeError with what is wrong. */
export async function prepareStart(
  context: EndpointContext,
  flags: Readonly<Record<string, unknown>>,
): Promise<PreparedStart> {
  const { directory, environment } = context;
  const { dotenvPath } = directory;
  const reading = loadAgentConfig(directory, environment, flags);
  const [resolved, signIn] = await problemsTogether([
    async () => await reading,
    async () => await findSignIn(async () => (await reading).config, { environment, dotenvPath }),
  ]);
  return { context, resolved, signIn, flags };
}

/** Starts in the background, waits until it is online, and says so. */
export async function startEndpoint(
  prepared: PreparedStart,
  options: StartOptions,
): Promise<number> {
  const { context, signIn, resolved, flags } = prepared;
  const { name } = context.directory;
  await refuseWhenRunning(context.directory);
  await lookAtOtherHost(context, options.takeover);
  await checkHubCertificate(resolved.config);
  for (const warning of signIn.warnings) {
    printNote(`Note: ${warning}`);
  }
  for (const notice of resolved.config.notices) {
    printNote(`Warning: ${notice}`);
  }
  const startedMs = systemClock.monotonicMs();
  const { endpointId, pid, hub } = await startInBackground(
    context,
    {
      flags,
      takeover: options.takeover,
      ...(await handedOver(signIn)),
    },
    options.timeoutMs,
    options.json ? () => undefined : showProgress(name),
  );
  if (options.json) {
    printJson({
      name,
      endpoint_id: endpointId,
      pid,
      state: 'online',
      hub_status: hub.status,
    });
    return 0;
  }
  const tookMs = systemClock.monotonicMs() - startedMs;
  printLine(
    `Endpoint ${name} is online (id ${endpointId}, process ${pid}, ${(tookMs / 1000).toFixed(1)} s).`,
  );
  if (hub.note !== undefined) {
    printNote(hub.note);
  }
  return 0;
}

/** Credentials that only this process has. */
async function handedOver(signIn: SignIn): Promise<Pick<Handover, 'credentials'>> {
  if (signIn.kind !== 'client' || !signIn.credentials.handOver) {
    return {};
  }
  const { clientId, clientSecret, source } = signIn.credentials;
  return { credentials: { clientId, clientSecret: (await clientSecret()).reveal(), source } };
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
  // Loaded where it is needed, here and below: the time to start counts.
  const { elsewhereText, isHolder, lookElsewhere } = await import('./elsewhere.ts');
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
    const { checkCertificate, tlsPeer } =
      await import('../../transport/tls/certificate-refused.ts');
    await checkCertificate(tlsPeer('the hub', url, 443), ca);
  }
}

/** Notes about progress, on a terminal only. */
function showProgress(name: string): (progress: StartReport) => void {
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
