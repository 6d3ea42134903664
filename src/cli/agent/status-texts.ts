/** Parts of the status in words: the mode of an endpoint, its jobs, its execution environments, how its settings were read again. */
import type { ModeDocument } from '../../agent/agent-mode.ts';
import { timeText } from '../output.ts';
import { fieldsOf } from './status-document.ts';
import type { StatusDocument } from './status-document.ts';

/** Who has asked for the mode, when and why; undefined for an endpoint that takes tasks. */
export function modeText({ state, since, by, reason }: ModeDocument): string | undefined {
  if (state === 'running') {
    return undefined;
  }
  const when = since === null ? '' : ` since ${localTime(since)}`;
  const who = by === null ? '' : ` by ${by}`;
  return `${state}${when}${who}${reason === null ? '' : `: ${reason}`}`;
}

/** The interpreters in an execution environment. */
export function environmentText(report: unknown): string {
  const { type, location, running, idle, starting, reason } = fieldsOf(report);
  const counts = Object.entries({ running, idle, starting })
    .filter(([, count]) => typeof count === 'number' && count > 0)
    .map(([state, count]) => `${String(count)} ${state}`)
    .join(', ');
  const why = typeof reason === 'string' ? `does not start: ${reason}` : '';
  return `${String(type)} ${String(location)}: ${[counts, why].filter((part) => part !== '').join('; ')}`;
}

/** What became of the settings when they were read again, where somebody has to do something about it. */
export function reloadText({ name, reload }: StatusDocument): string | undefined {
  if (reload === null) {
    return undefined;
  }
  const { at, ok, problems, restart_needed: restartNeeded } = reload;
  if (ok !== true) {
    const count = Array.isArray(problems) ? problems.length : 0;
    const what = count === 1 ? 'a problem' : `${Math.max(count, 1)} problems`;
    return `read again at ${localTime(String(at))}, with ${what}: the agent goes on with those from before; see: agent reload ${name}`;
  }
  const keys = (Array.isArray(restartNeeded) ? restartNeeded : []).map((change) =>
    String(fieldsOf(change)['key']),
  );
  return keys.length === 0
    ? undefined
    : `${keys.join(', ')} changed, waiting for: agent restart ${name}`;
}

/** One line for each job. */
export function jobTexts(jobs: readonly unknown[]): [string, string][] {
  return jobs.map((job) => ['By the clock', jobText(fieldsOf(job))]);
}

function jobText(job: Readonly<Record<string, unknown>>): string {
  const { name, schedule, last_run: lastRun, outcome, detail, running, next_run: next } = job;
  const what = typeof detail === 'string' ? ` (${detail})` : '';
  const last =
    typeof lastRun === 'string' ? `last ${localTime(lastRun)} ${String(outcome)}${what}, ` : '';
  const now = running === true ? 'runs now, ' : '';
  const then = typeof next === 'string' ? `next ${localTime(next)}` : 'never again';
  return `${String(name)}, at ${String(schedule)}: ${now}${last}${then}`;
}

function localTime(iso: string): string {
  const at = Date.parse(iso);
  return Number.isNaN(at) ? iso : timeText(at);
}
