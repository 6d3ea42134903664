/** Memory while a hundred thousand tasks wait at the broker: a backlog must stay there. All slots are taken by tasks that wait. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { sleep, systemClock } from '../../src/base/clock.ts';
import { Generator } from '../generator.ts';
import { rssMb } from '../process-usage.ts';
import type { Report } from '../report.ts';
import type { BenchAgent } from '../site.ts';
import { median, round } from '../statistics.ts';
import { JAVASCRIPT_ONLY, RESULTS_QUEUE } from './context.ts';
import type { BenchContext } from './context.ts';

const SETTLE_MS = 5_000;
const SAMPLES = 11;
const SAMPLE_PERIOD_MS = 200;

/** Fills the queue behind tasks that hold every slot, and looks at the agent's memory before and after. */
export async function measureQueued({
  site,
  options,
  say,
}: BenchContext): Promise<NonNullable<Report['queued']>> {
  const agent = await site.startAgent('queued', { settings: JAVASCRIPT_ONLY });
  await site.useHub(false);
  const generator = await Generator.start(site.amqpUrl, [RESULTS_QUEUE]);
  const gate = join(site.stack.home, 'gate');
  try {
    await generator.burst(agent.destination, 'javascript-noop', 100);
    await generator.fill(agent.destination, 'javascript-wait', 1, gate);
    const atOne = await memory(agent);
    await generator.fill(agent.destination, 'javascript-wait', options.queuedCount - 1, gate);
    const atMany = await memory(agent);
    say(
      `queued: control process ${atOne.agentMb} MB with 1 task, ${atMany.agentMb} MB with ${options.queuedCount}`,
    );
    await site.manage(
      'DELETE',
      `/queues/${site.vhostPath}/${encodeURIComponent(agent.destination.routingKey)}/contents`,
    );
    return {
      rssMbAt1: atOne.agentMb,
      rssMbAt100k: atMany.agentMb,
      hostRssMbAt1: atOne.hostMb,
      hostRssMbAt100k: atMany.hostMb,
    };
  } finally {
    writeFileSync(gate, '');
    await agent.stop();
    await generator.stop();
  }
}

async function memory(agent: BenchAgent): Promise<{ agentMb: number; hostMb: number }> {
  await sleep(systemClock, SETTLE_MS);
  const samples: { agentMb: number; hostMb: number }[] = [];
  for (let sample = 0; sample < SAMPLES; sample += 1) {
    samples.push({ agentMb: rssMb(agent.pid), hostMb: rssMb(agent.hostPid) });
    await sleep(systemClock, SAMPLE_PERIOD_MS);
  }
  return {
    agentMb: round(median(samples.map(({ agentMb }) => agentMb)), 1),
    hostMb: round(median(samples.map(({ hostMb }) => hostMb)), 1),
  };
}
