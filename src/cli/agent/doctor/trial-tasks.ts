/**
 * Runs a task of each language in a worker host of its own, with the settings of the endpoint: all of the way that a task takes on this
 * machine, without hub, broker and journal. The host of a running agent is left alone; this one has a cookie of its own, and nothing of
 * it stays.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';

import { WorkerHost } from '../../../agent/worker-host.ts';
import { systemClock } from '../../../base/clock.ts';
import { UnavailableError } from '../../../base/errors.ts';
import { silentLogger } from '../../../base/logger.ts';
import { workerBaseEnvironment } from '../../../config/process-context.ts';
import { packTask, unpackResult } from '../../../protocol/messages.ts';
import { packBuffers, serializeJson } from '../../../protocol/serialization.ts';
import type { Language } from '../../../protocol/serialization.ts';
import { EXIT, failed, ok, skipped } from './check.ts';
import type { Check, Finding } from './check.ts';
import type { Subject } from './subject.ts';

const KILL_GRACE_MS = 500;

/** Two numbers are added: it shows that arguments arrive and that the value comes back. */
const TRIALS = {
  javascript: { code: 'js\ntrial:(a, b) => a + b', setting: 'javascript_threads' },
  python: {
    code: 'st\ntrial:def trial(a, b):\n    return a + b\n',
    setting: 'python_interpreters',
  },
} as const;

/** The checks. */
export const TRIAL_CHECKS: readonly Check[] = [trial('javascript'), trial('python')];

function trial(language: Language): Check {
  const { setting } = TRIALS[language];
  const shared = [setting, 'environment', 'worker_nice'];
  return {
    name: `${language}-task`,
    ...(language === 'python' && { after: ['python'] }),
    settings:
      language === 'python'
        ? [...shared, 'python', 'worker_memory_mb']
        : [...shared, 'javascript_heap_mb'],
    remedy:
      'See the checks of limits and memory here; report it with: agent doctor NAME --bundle FILE.tar.gz',
    run: async (subject, signal) => {
      const { javascriptThreads, pythonInterpreters, workerHost } = subject.settings.config;
      if ((language === 'python' ? pythonInterpreters : javascriptThreads) === 0) {
        return skipped(
          `the settings ask for no ${language === 'python' ? 'Python' : 'JavaScript'} workers`,
        );
      }
      const note =
        workerHost === 'unit'
          ? ' (as this user; those of the endpoint run in a unit of another)'
          : '';
      return await trialFinding(subject, language, signal, note);
    },
  };
}

async function trialFinding(
  subject: Subject,
  language: Language,
  signal: AbortSignal,
  note: string,
): Promise<Finding> {
  const directory = await mkdtemp(join(tmpdir(), 'outpost-doctor-'));
  const begunMs = performance.now();
  try {
    const outcome = await runTrial(subject, language, directory, signal);
    const ms = Math.round(performance.now() - begunMs);
    if (outcome === serializeJson(3)) {
      return ok(`1 + 2 is 3, ${ms} ms after the start of a worker host${note}`, { ms });
    }
    return failed(
      EXIT.tryAgain,
      `the task came back with ${JSON.stringify(outcome.slice(0, 500))} instead of 3${note}`,
      'Report it: agent doctor NAME --bundle FILE.tar.gz',
      { ms },
    );
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** The serialized value, or the words of the failure. @throws UnavailableError when no worker answers. */
async function runTrial(
  { context, settings }: Subject,
  language: Language,
  directory: string,
  signal: AbortSignal,
): Promise<string> {
  const { config } = settings;
  const nonce = randomUUID();
  const taskId = randomUUID();
  const args = serializeJson([1, 2]);
  const buffers = packBuffers([TRIALS[language].code, args, serializeJson({})]);
  const settled: { resolve: (text: string) => void; reject: (error: Error) => void } = {
    resolve: () => undefined,
    reject: () => undefined,
  };
  const outcome = new Promise<string>((resolve, reject) => {
    Object.assign(settled, { resolve, reject });
  });
  const lost = (why: string): void => {
    settled.reject(
      new UnavailableError('START_FAILED', `no ${language} worker could be used: ${why}`),
    );
  };
  const onAbort = (): void => {
    lost('it took too long');
  };
  signal.addEventListener('abort', onAbort, { once: true });
  let isSent = false;
  const host = new WorkerHost(
    {
      config: {
        endpointId: randomUUID(),
        javascript: { threads: language === 'javascript' ? 1 : 0, heapMb: config.javascriptHeapMb },
        python: {
          interpreters: language === 'python' ? 1 : 0,
          executable: config.python,
          memoryMb: config.workerMemoryMb,
        },
        nice: config.workerNice,
        workingDir: directory,
        resultCharsMax: config.resultCharsMax,
        outputBytesMax: config.outputBytesMax,
        killGraceMs: KILL_GRACE_MS,
        startTimeoutMs: config.workerStartTimeoutMs,
        environment: config.environment,
      },
      socketPath: join(directory, 's'),
      environment: workerBaseEnvironment(context.environment),
      cookie: randomBytes(16).toString('hex'),
      clock: systemClock,
      logger: silentLogger,
    },
    {
      onReady: (frame) => {
        if (!isSent && frame[language] > 0) {
          isSent = true;
          host.send(
            { type: 'task', task_id: taskId, nonce, language },
            packTask({ task_id: taskId, task_buffer: buffers }),
          );
        }
      },
      onResult: (_frame, body) => {
        const { data, error_details: error } = unpackResult(body);
        settled.resolve(error === null ? data : error.user_message);
      },
      onFailed: ({ message }) => {
        settled.resolve(message);
      },
      onReturned: () => undefined,
      onDegraded: ({ reason }) => {
        lost(reason);
      },
      onLost: lost,
      onBroken: lost,
    },
  );
  try {
    await host.start();
    return await outcome;
  } finally {
    signal.removeEventListener('abort', onAbort);
    await host.stop();
  }
}
