/** The whole way, as people use it: SDK, hub, agent, hub, SDK; once with our SDK and once with the unmodified one from PyPI. */
import assert from 'node:assert/strict';
import { join } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';
import { runProgram } from '../../test/support/stack.ts';
import { BenchProcess } from '../child-process.ts';
import type { HubThroughput, Report } from '../report.ts';
import type { SdkBatchReply, SdkBatchSettings } from '../sdk-batch-process.ts';
import { quantile, round } from '../statistics.ts';
import type { BenchContext } from './context.ts';

/** Latency of the unmodified SDK is some hundreds of milliseconds: it gathers submissions before it sends them. */
const SAMPLES_MAX = 50;
const PYTHON_LIMIT_MS = 15 * 60_000;

/** A batch and idle latency with each SDK. */
export async function measureHub(context: BenchContext): Promise<NonNullable<Report['hub']>> {
  const { site, options, say } = context;
  const agent = await site.startAgent('hub', {
    settings: { 'javascript-threads': 2, 'python-interpreters': 2 },
  });
  try {
    const typescript = await withOurSdk(context, agent.endpointId);
    say(`hub, our SDK: ${typescript.tasksPerSecond} tasks/s, idle ${typescript.idleP50Ms} ms`);
    const python = await withPythonSdk(context, agent.endpointId);
    say(
      'skipped' in python
        ? `hub, Python SDK: ${python.skipped}`
        : `hub, Python SDK: ${python.tasksPerSecond} tasks/s, idle ${python.idleP50Ms} ms`,
    );
    return { tasks: options.taskCount, typescript, python };
  } finally {
    await agent.stop();
  }
}

async function withOurSdk(
  { site, options }: BenchContext,
  endpointId: string,
): Promise<HubThroughput> {
  const settings: SdkBatchSettings = {
    hubUrl: site.stack.hubUrl,
    endpointId,
    taskCount: options.taskCount,
    sampleCount: Math.min(SAMPLES_MAX, options.latencySamples),
  };
  const { id, secret } = site.stack.client;
  const client = await BenchProcess.start('sdk-batch-process', [JSON.stringify(settings)], {
    PATH: process.env['PATH'],
    OUTPOST_CLIENT_ID: id,
    OUTPOST_CLIENT_SECRET: secret,
  });
  try {
    return throughput((await client.ask({})) as SdkBatchReply, options.taskCount);
  } finally {
    await client.stop();
  }
}

async function withPythonSdk(
  { site, options }: BenchContext,
  endpointId: string,
): Promise<(HubThroughput & { sdkVersion: string }) | { skipped: string }> {
  const python = process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '';
  if (python === '') {
    return { skipped: 'no environment with globus-compute-sdk' };
  }
  if (!site.hasSdkPort) {
    return { skipped: 'port 5000, the only one that the SDK knows, is taken on this host' };
  }
  const script = join(packageRoot(), 'bench/python/sdk_batch.py');
  const args = [script, options.taskCount, Math.min(SAMPLES_MAX, options.latencySamples)];
  const outcome = await runProgram(python, args.map(String), {
    env: { ...site.stack.sdkEnvironment, ENDPOINT_ID: endpointId },
    limitMs: PYTHON_LIMIT_MS,
  });
  assert.equal(outcome.code, 0, `${script}: ${outcome.stderr}`);
  const reply = JSON.parse(outcome.stdout.trim().split('\n').at(-1) ?? '') as SdkBatchReply & {
    sdkVersion: string;
  };
  return { ...throughput(reply, options.taskCount), sdkVersion: reply.sdkVersion };
}

function throughput({ latenciesMs, seconds }: SdkBatchReply, taskCount: number): HubThroughput {
  return {
    tasksPerSecond: round(taskCount / seconds, 0),
    idleP50Ms: round(quantile(latenciesMs, 0.5), 1),
    idleP99Ms: round(quantile(latenciesMs, 0.99), 1),
  };
}
