/** A worker host as an agent supervises it (src/agent/worker-host.ts), with the settings that tests have in common. */
import { join } from 'node:path';

import type { WorkerHostEvents } from '../../src/agent/host-link.ts';
import { WorkerHost } from '../../src/agent/worker-host.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { HostConfig } from '../../src/protocol/host-frames.ts';
import { ENDPOINT_ID, PYTHON } from './worker-host.ts';

export interface SupervisedHostOptions {
  /** Holds the socket; tasks run there too, unless `config` says otherwise. */
  readonly directory: string;
  readonly cookie: string;
  readonly threads: number;
  readonly interpreters: number;
  readonly config?: Partial<HostConfig>;
  /** PATH is added. What is changed later counts for the next host. */
  readonly environment?: Record<string, string>;
  readonly events: Partial<WorkerHostEvents>;
}

const ignore = (): void => undefined;

/** Made, not started. */
export function supervisedHost(options: SupervisedHostOptions): WorkerHost {
  const { directory, cookie, threads, interpreters, config, environment = {}, events } = options;
  return new WorkerHost(
    {
      config: {
        endpointId: ENDPOINT_ID,
        javascript: { threads, heapMb: 64 },
        python: { interpreters, executable: PYTHON },
        workingDir: directory,
        resultCharsMax: 1000,
        outputBytesMax: 1000,
        killGraceMs: 200,
        startTimeoutMs: 30_000,
        environment: {},
        ...config,
      },
      socketPath: join(directory, 's'),
      environment: Object.assign(environment, { PATH: process.env['PATH'] ?? '' }),
      cookie,
      clock: systemClock,
      logger: silentLogger,
    },
    {
      onReady: ignore,
      onResult: ignore,
      onFailed: ignore,
      onReturned: ignore,
      onDegraded: ignore,
      onLost: ignore,
      onBroken: ignore,
      ...events,
    },
  );
}
