/** A dispatcher whose host and consumer do nothing, unless a test says otherwise. */
import { randomUUID } from 'node:crypto';

import { Dispatcher } from '../../src/agent/dispatcher.ts';
import type { Journal } from '../../src/agent/journal/journal.ts';
import { ResultOutbox } from '../../src/agent/result-outbox.ts';
import { TaskStatuses } from '../../src/agent/task-statuses.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';

type DispatcherOptions = ConstructorParameters<typeof Dispatcher>[0];

/** Makes a dispatcher with a place for each language. */
export function makeDispatcher(
  journal: Journal,
  options: Partial<DispatcherOptions> = {},
): Dispatcher {
  const clock = options.clock ?? systemClock;
  const outbox = new ResultOutbox(
    journal,
    clock,
    silentLogger,
    () => undefined,
    () => ({ body: Buffer.alloc(0), headers: {} }),
  );
  return new Dispatcher({
    rules: {
      endpointId: randomUUID(),
      allowedFunctions: undefined,
      places: { javascript: 1, python: 1 },
    },
    reserve: 8,
    maxRetries: 0,
    taskTimeoutMs: 0,
    journal,
    outbox,
    statuses: new TaskStatuses(clock),
    clock,
    logger: silentLogger,
    isHostConnected: () => true,
    sendToHost: () => undefined,
    pauseConsuming: () => undefined,
    resumeConsuming: () => undefined,
    ...options,
  });
}
