/** What an agent with two threads and two interpreters costs while it has nothing to do: login nodes kill what burns CPU. */
import { sleep, systemClock } from '../../src/base/clock.ts';
import { commandLine, descendants, fineCpuSeconds, rssMb } from '../process-usage.ts';
import type { IdleProcess, Report } from '../report.ts';
import type { BenchAgent } from '../site.ts';
import { round } from '../statistics.ts';
import type { BenchContext } from './context.ts';

const MINUTE_MS = 60_000;
/** What a start leaves to be done (garbage, lazy compilation) is not idling. */
const SETTLE_MS = 10_000;

/** Starts an agent, leaves it alone, and looks at what each of its processes used meanwhile. */
export async function measureIdle({
  site,
  options,
  say,
}: BenchContext): Promise<NonNullable<Report['idle']>> {
  const agent = await site.startAgent('idle', {
    settings: { 'javascript-threads': 2, 'python-interpreters': 2 },
  });
  try {
    say(`idle: watching for ${options.idleMinutes} min`);
    await sleep(systemClock, SETTLE_MS);
    const processes = [agent.pid, ...descendants(agent.pid)];
    const before = processes.map(fineCpuSeconds);
    await sleep(systemClock, options.idleMinutes * MINUTE_MS);
    const found = processes.map((pid, index): IdleProcess & { pid: number } => ({
      pid,
      name: processName(pid, agent),
      rssMb: round(rssMb(pid), 1),
      cpuSecondsPerMinute: round(
        (fineCpuSeconds(pid) - (before[index] ?? 0)) / options.idleMinutes,
        4,
      ),
    }));
    const of = (pid: number): IdleProcess | undefined => found.find((one) => one.pid === pid);
    return {
      agentRssMb: of(agent.pid)?.rssMb ?? 0,
      hostRssMb: of(agent.hostPid)?.rssMb ?? 0,
      cpuSecondsPerMinute: of(agent.pid)?.cpuSecondsPerMinute ?? 0,
      minutes: options.idleMinutes,
      processes: found.map(({ name, rssMb: rss, cpuSecondsPerMinute }) => ({
        name,
        rssMb: rss,
        cpuSecondsPerMinute,
      })),
    };
  } finally {
    await agent.stop();
  }
}

function processName(pid: number, agent: BenchAgent): string {
  if (pid === agent.pid) {
    return 'control process';
  }
  if (pid === agent.hostPid) {
    return 'worker host';
  }
  return commandLine(pid).includes('python') ? 'interpreter' : 'other';
}
