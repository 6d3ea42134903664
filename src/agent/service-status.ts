/** What an agent does, in words, as `systemctl status` shows it: one line that changes only when something has changed. */
import type { AgentStatus } from './agent-status.ts';

/** The line. */
export function serviceStatus(status: AgentStatus): string {
  const parts = [stateText(status)];
  if (status.mode.state !== 'running') {
    const why = status.mode.reason === null ? '' : ` (${status.mode.reason})`;
    parts.push(`${status.mode.state}${why}`);
  }
  for (const [language, why] of Object.entries(status.tasks.degraded)) {
    parts.push(`DEGRADED, ${language}: ${why}`);
  }
  if (status.journal.full) {
    parts.push('journal full');
  }
  if (status.reload?.ok === false) {
    parts.push('the settings on disk are wrong, going on with those from before');
  }
  return parts.join('; ');
}

function stateText({ state, phase, reason, endpoint_id: id, tasks }: AgentStatus): string {
  switch (state) {
    case 'online':
      return `online, endpoint ${id ?? '?'}`;
    case 'offline':
      return `${reason ?? 'offline'}; trying again`;
    case 'draining':
      return `stopping: ${tasks.running} running, ${tasks.waiting} waiting`;
    case 'stopped':
      return 'stopped';
    case 'starting':
      return reason === null ? `starting (${phase})` : `starting: ${reason}; trying again`;
  }
}
