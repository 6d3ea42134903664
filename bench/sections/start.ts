/** How long `agent start` takes until the endpoint is online, hub up: what a person waits for at the prompt. */
import type { Report } from '../report.ts';
import { median, round } from '../statistics.ts';
import type { BenchContext } from './context.ts';

const NAME = 'start';

/** Starts and stops the same endpoint a few times; the first start, which registers it, is not counted. */
export async function measureStart({
  site,
  options,
  say,
}: BenchContext): Promise<NonNullable<Report['start']>> {
  await site.useHub(true);
  await site.configure(NAME);
  await site.stack.startAgent(NAME);
  await site.stack.stopAgent(NAME);
  const runs: number[] = [];
  for (let run = 0; run < (options.isQuick ? 1 : Math.max(options.runCount, 3)); run += 1) {
    const begun = performance.now();
    await site.stack.startAgent(NAME);
    runs.push(round(performance.now() - begun, 0));
    await site.stack.stopAgent(NAME);
    say(`agent start: ready after ${runs.at(-1) ?? ''} ms`);
  }
  return { readyMs: median(runs), runs };
}
