/**
 * How long it takes until an agent consumes again after the broker closed its connections: from the broker's answer to the order to close
 * them until the result of a task comes that was published right after that answer.
 */
import assert from 'node:assert/strict';

import { eventually } from '../../test/support/eventually.ts';
import { Generator } from '../generator.ts';
import type { Report } from '../report.ts';
import { median, round } from '../statistics.ts';
import { JAVASCRIPT_ONLY, RESULTS_QUEUE } from './context.ts';
import type { BenchContext } from './context.ts';

const NAME = 'reconnect';
const ROUNDS = 3;

interface BrokerConnection {
  readonly name: string;
  readonly vhost: string;
  readonly client_properties?: { readonly connection_name?: string };
}

/** Closes both connections of an agent, a few times. */
export async function measureReconnect(
  context: BenchContext,
): Promise<NonNullable<Report['reconnect']>> {
  const { site, say } = context;
  const agent = await site.startAgent(NAME, { settings: JAVASCRIPT_ONLY });
  await site.useHub(false);
  const generator = await Generator.start(site.amqpUrl, [RESULTS_QUEUE]);
  try {
    await generator.burst(agent.destination, 'javascript-noop', 1);
    const runs: number[] = [];
    while (runs.length < ROUNDS) {
      const connections = await eventually(async () => {
        const found = await connectionsOf(context);
        assert.equal(found.length, 2, `the agent has ${found.length} connections`);
        return found;
      }, 30_000);
      await Promise.all(
        connections.map(
          async ({ name }) =>
            await site.manage('DELETE', `/connections/${encodeURIComponent(name)}`),
        ),
      );
      const begun = performance.now();
      await generator.burst(agent.destination, 'javascript-noop', 1);
      runs.push(round(performance.now() - begun, 0));
      say(`consuming again after ${runs.at(-1) ?? ''} ms`);
    }
    return { consumingMs: median(runs), runs };
  } finally {
    await generator.stop();
    await agent.stop();
  }
}

async function connectionsOf({ site }: BenchContext): Promise<BrokerConnection[]> {
  const all = (await site.manage(
    'GET',
    `/vhosts/${site.vhostPath}/connections`,
  )) as BrokerConnection[];
  return all.filter(
    ({ client_properties: properties }) =>
      properties?.connection_name?.startsWith(`${NAME} `) === true,
  );
}
