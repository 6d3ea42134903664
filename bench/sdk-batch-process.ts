/** Our own SDK through the hub, in a process of its own: idle latency, then a batch at once. Argument: settings as JSON; sends one reply. */
import { Client, Executor } from '../src/sdk/index.ts';

/** What is measured, and where. The client's secret comes in the environment. */
export interface SdkBatchSettings {
  readonly hubUrl: string;
  readonly endpointId: string;
  readonly taskCount: number;
  readonly sampleCount: number;
}

/** What was measured. */
export interface SdkBatchReply {
  readonly latenciesMs: readonly number[];
  readonly seconds: number;
}

const settings = JSON.parse(process.argv[2] ?? '{}') as SdkBatchSettings;
const client = new Client({ hubUrl: settings.hubUrl });
const executor = new Executor({ client, endpointId: settings.endpointId });

function noop(): number {
  return 1;
}

async function measure(): Promise<SdkBatchReply> {
  await executor.submit(noop);
  const latenciesMs: number[] = [];
  for (let sample = 0; sample < settings.sampleCount; sample += 1) {
    const begun = performance.now();
    await executor.submit(noop);
    latenciesMs.push(performance.now() - begun);
  }
  const begun = performance.now();
  await Promise.all(Array.from({ length: settings.taskCount }, () => executor.submit(noop)));
  const seconds = (performance.now() - begun) / 1000;
  await executor.shutdown();
  return { latenciesMs, seconds };
}

process.once('message', () => {
  measure().then(
    (reply) => {
      process.send?.(reply);
      process.disconnect();
    },
    (error: unknown) => {
      process.nextTick(() => {
        throw error;
      });
    },
  );
});
process.send?.('ready');
