/** The agent of the endpoint: who runs it, what it says of itself, and what an earlier one left behind. Nothing is ended here. */
import { agentCookie, findLeftovers } from '../../../agent/leftovers.ts';
import { findPresence } from '../presence.ts';
import { fieldsOf, stateText } from '../status-document.ts';
import type { StatusDocument } from '../status-document.ts';
import { EXIT, failed, ok, warning } from './check.ts';
import type { Check, Finding } from './check.ts';
import type { Subject } from './subject.ts';

/** The checks. */
export const AGENT_CHECKS: readonly Check[] = [
  { name: 'agent', remedy: 'See: agent status NAME', run: agentFinding },
  { name: 'leftovers', remedy: 'See: ps -ef', run: leftoversFinding },
];

async function agentFinding(subject: Subject): Promise<Finding> {
  const status = await subject.status();
  const { name, state, reason, pid, host, since } = status;
  const details = {
    state,
    pid,
    host,
    since,
    mode: status.mode.state,
    lease_epoch: status.lease_epoch,
    degraded: status.degraded,
  };
  const who = `process ${pid ?? '?'} on ${host ?? '?'}, since ${since ?? '?'}`;
  switch (state) {
    case 'stopped':
      return ok('no agent runs this endpoint here', details);
    case 'stale':
      return warning(
        reason ?? 'its agent ended without cleaning up',
        `agent start ${name}; it goes on from the journal`,
        details,
      );
    case 'elsewhere':
      return warning(
        `it runs on another host: ${who}. What is said here of this host does not concern it`,
        `Run doctor there; or move it here: agent start ${name} --takeover`,
        details,
      );
    case 'unresponsive':
      return failed(
        EXIT.tryAgain,
        reason ?? 'the agent does not answer',
        `agent restart ${name}; if it hangs in the kernel (ps: state D), see to its file system first`,
        details,
      );
    case 'online':
    case 'offline':
    case 'starting':
    case 'draining':
      return runningFinding(status, who, details);
  }
}

function runningFinding(
  status: StatusDocument,
  who: string,
  details: Readonly<Record<string, unknown>>,
): Finding {
  const { name, reason, degraded, stalls, reload, journal } = status;
  const [language, why] = Object.entries(degraded)[0] ?? [];
  if (language !== undefined) {
    return failed(
      EXIT.tryAgain,
      `it runs (${who}) and cannot start workers for ${language}: ${why ?? ''}`,
      `See what they say: agent logs ${name} --level warn; look at the checks of interpreters and tasks here`,
      details,
    );
  }
  if (status.state === 'offline') {
    return failed(
      EXIT.tryAgain,
      `it runs (${who}) and is not online: ${reason ?? 'for no reason that it knows'}`,
      'See the checks of hub and broker here; it tries again by itself, and its tasks go on',
      details,
    );
  }
  if (journal?.['full'] === true) {
    return failed(
      EXIT.tryAgain,
      `it runs (${who}) and takes no tasks: its journal is full`,
      'Free disk space, or raise journal_bytes_max and restart it',
      details,
    );
  }
  const unusual = [
    ...(status.mode.state === 'running' ? [] : [`it takes no tasks: ${status.mode.state}`]),
    ...(stalls.length === 0
      ? []
      : [
          `loops hung and were started again: ${stalls.map((stall) => String(fieldsOf(stall)['loop'])).join(', ')}`,
        ]),
    ...(reload?.['ok'] === false
      ? ['the settings were wrong when they were read again, those from before are in force']
      : []),
  ];
  return unusual.length === 0
    ? ok(`${stateText(status)}: ${who}`, details)
    : warning(
        `${stateText(status)} (${who}); ${unusual.join('; ')}`,
        status.mode.state === 'running'
          ? `agent logs ${name} --level warn`
          : `agent resume ${name}`,
        details,
      );
}

async function leftoversFinding({ context }: Subject): Promise<Finding> {
  const { directory } = context;
  const [presence, cookie] = await Promise.all([
    findPresence(directory),
    agentCookie(directory.path),
  ]);
  const found = findLeftovers(cookie);
  const details = { processes: found };
  if (presence.kind === 'running') {
    return ok(`${found.length} processes belong to the running agent`, details);
  }
  const pids = found.map(({ pid }) => pid);
  return found.length === 0
    ? ok('no processes are left of an earlier run', details)
    : warning(
        `${found.length} processes are left of an earlier run: ${found.map(({ pid, command }) => `${pid} (${command})`).join(', ')}`,
        `The next start ends them: agent start ${directory.name}; or now: kill -9 ${pids.join(' ')}`,
        details,
      );
}
