/**
 * Writes to a journal until it is killed, and says on stdout what the journal has acknowledged: one line per fact, written after it.
 *
 *   node journal-process.js DIRECTORY EPOCH
 */
import { randomUUID } from 'node:crypto';
import { writeSync } from 'node:fs';

import { openJournal } from '../../src/agent/journal/journal.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';

const [, , directory = '', epoch = '1'] = process.argv;

const { journal } = await openJournal({
  directory,
  host: 'node-a',
  bootId: `boot-${epoch}`,
  epoch: Number(epoch),
  clock: systemClock,
  logger: silentLogger,
  segmentBytesMax: 200_000,
  reserveBytes: 4096,
});

function say(fact: string): void {
  writeSync(1, `${fact}\n`);
}

/** One task after the other, each as far as its turn says. */
async function lane(): Promise<never> {
  for (let turn = 0; ; turn += 1) {
    const taskId = randomUUID();
    await journal.received({ taskId, meta: { turn }, body: Buffer.alloc(200, taskId) }, false);
    say(`received ${taskId}`);
    if (turn % 8 === 0) {
      continue;
    }
    await journal.started(taskId);
    say(`started ${taskId}`);
    if (turn % 8 === 1) {
      continue;
    }
    await journal.done(taskId, { body: Buffer.from(taskId), headers: {} });
    say(`done ${taskId}`);
    if (turn % 8 !== 2) {
      journal.confirmed(taskId);
      say(`confirmed ${taskId}`);
    }
  }
}

await Promise.all(Array.from({ length: 16 }, lane));
