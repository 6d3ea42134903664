/** Whose credentials are used, and what the hub has on record about the endpoint. */
import { ComputeError } from '../../../base/errors.ts';
import { readRegistration } from '../../../config/endpoint-directory.ts';
import { EXIT, failed, ok, skipped, warning } from './check.ts';
import type { Check, Finding } from './check.ts';
import type { Subject } from './subject.ts';

const SETTINGS = ['hub_url', 'ca_file'] as const;

/** The checks. */
export const IDENTITY_CHECKS: readonly Check[] = [
  {
    name: 'credentials',
    remedy:
      'Give the endpoint working credentials: agent configure NAME --force, or see docs/configuration.md',
    run: credentialsFinding,
  },
  {
    name: 'identity',
    after: ['credentials', 'hub-http'],
    settings: SETTINGS,
    remedy:
      'Ask the hub’s administrator for new credentials (hub client create), then: agent configure NAME --force',
    run: identityFinding,
  },
  {
    name: 'registration',
    after: ['identity'],
    settings: SETTINGS,
    remedy: 'See: agent whoami NAME. The endpoint belongs to whoever registered it first',
    run: registrationFinding,
  },
];

async function credentialsFinding(subject: Subject): Promise<Finding> {
  const signIn = await subject.signIn();
  const { source } = signIn;
  if (signIn.kind === 'person') {
    return ok(source, { client_id: null, source });
  }
  const { clientId, warnings } = signIn.credentials;
  const found = `client ${clientId}, from ${source}`;
  const details = { client_id: clientId, source };
  const [first] = warnings;
  return first === undefined
    ? ok(found, details)
    : warning(
        `${found}; ${first}`,
        'Rename both variables where they are set: OUTPOST_CLIENT_ID, OUTPOST_CLIENT_SECRET',
        details,
      );
}

async function identityFinding(subject: Subject): Promise<Finding> {
  const { identityId, username, name } = await subject.identity();
  const { hubUrl } = subject.settings.config;
  const who = name ?? username;
  return ok(
    `${hubUrl} knows the credentials as ${identityId}${who === undefined ? '' : ` (${who})`}`,
    { identity_id: identityId, username: username ?? null, issuer: hubUrl },
  );
}

async function registrationFinding(subject: Subject): Promise<Finding> {
  const { directory } = subject.context;
  const stored = readRegistration(directory);
  if (stored === undefined) {
    return skipped(
      'the endpoint has never been registered',
      `Start it: agent start ${directory.name}`,
    );
  }
  const hub = await subject.hub();
  const { endpointId, leaseEpoch } = stored;
  let document: Readonly<Record<string, unknown>>;
  try {
    document = await hub.endpoint(endpointId);
  } catch (error) {
    if (error instanceof ComputeError && error.code === 'ENDPOINT_NOT_FOUND') {
      return failed(
        EXIT.conflict,
        `the hub does not know endpoint ${endpointId}: it was deleted there, belongs to somebody else, or was registered at another hub`,
        `Check hub_url and the credentials. To begin anew under another id: remove ${directory.registrationPath}, then agent start ${directory.name}`,
        { endpoint_id: endpointId },
      );
    }
    throw error;
  }
  const { owner } = document;
  const { identityId } = await subject.identity();
  const details = {
    endpoint_id: endpointId,
    lease_epoch: leaseEpoch,
    owner,
    hostname: document['hostname'] ?? null,
  };
  if (owner !== identityId) {
    return failed(
      EXIT.credentials,
      `endpoint ${endpointId} belongs to ${String(owner)}, and these credentials are ${identityId}’s`,
      'Use the credentials with which it was registered first',
      details,
    );
  }
  const [{ status }, local] = await Promise.all([hub.endpointStatus(endpointId), subject.status()]);
  return leaseFinding(subject, { ...details, hub_status: status, local_state: local.state });
}

/** Whether the hub's idea of who runs the endpoint is ours. */
function leaseFinding({ context }: Subject, details: Readonly<Record<string, unknown>>): Finding {
  const { name } = context.directory;
  const {
    endpoint_id: id,
    hub_status: atHub,
    local_state: here,
    hostname,
    lease_epoch: epoch,
  } = details;
  const runsHere = here === 'online';
  const where = typeof hostname === 'string' ? ` (it was registered last from ${hostname})` : '';
  if (atHub === 'online' && (here === 'stopped' || here === 'stale')) {
    return warning(
      `the hub has endpoint ${String(id)} online, and no agent runs it here${where}: another one holds its lease, or one was killed less than a minute ago`,
      `Wait a minute and look again. Else stop it where it runs, or take it over: agent start ${name} --takeover`,
      details,
    );
  }
  if (atHub !== 'online' && runsHere) {
    return warning(
      `the agent here says that it is online, and the hub has endpoint ${String(id)} as ${String(atHub)}: its heartbeats do not get through, or another agent has taken it over`,
      `Look at what it says: agent logs ${name} --level warn`,
      details,
    );
  }
  return ok(
    `endpoint ${String(id)} is ${String(atHub)} at the hub, lease ${String(epoch)}, and yours`,
    details,
  );
}
