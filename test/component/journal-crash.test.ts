/** SIGKILL at any moment: whatever the journal acknowledged is there afterwards. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { eventually } from '../support/eventually.ts';
import { JournalFixture } from '../support/journal-fixture.ts';

const PROGRAM = fileURLToPath(new URL('../support/journal-process.js', import.meta.url));
const RANK: Readonly<Record<string, number>> = { received: 0, started: 1, done: 2, confirmed: 3 };

/** Lets the program write until it has said `lineCount` facts, kills it, and returns how far each task is known to have come. */
async function writeAndKill(
  directory: string,
  epoch: number,
  lineCount: number,
): Promise<Map<string, string>> {
  const child = spawn(process.execPath, [PROGRAM, directory, String(epoch)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (chunk: string) => {
    text += chunk;
  });
  const closed = once(child, 'close');
  try {
    await eventually(() => {
      assert.ok(text.length > lineCount * 45);
    });
  } finally {
    child.kill('SIGKILL');
    await closed;
  }
  const facts = new Map<string, string>();
  // The last line may be cut, and then was not said.
  for (const line of text.split('\n').slice(0, -1)) {
    const [state = '', taskId = ''] = line.split(' ');
    facts.set(taskId, state);
  }
  return facts;
}

describe('a journal whose process is killed', () => {
  const fixture = new JournalFixture();

  afterEach(async () => {
    await fixture.release();
  });

  it('has everything that it acknowledged, round after round', async () => {
    const directory = await fixture.directory();
    const facts = new Map<string, string>();
    for (let round = 1; round <= 5; round += 1) {
      const said = await writeAndKill(directory, round * 2, 500 * round);
      said.forEach((state, taskId) => facts.set(taskId, state));
      const { journal, recovered } = await fixture.open(directory, { epoch: round * 2 + 1 });
      const found = new Map(recovered.map((task) => [task.taskId, task]));
      for (const [taskId, state] of facts) {
        const task = found.get(taskId);
        const rank =
          task === undefined ? (journal.lookup(taskId) === 'confirmed' ? 3 : -1) : RANK[task.state];
        // A confirmation is written lazily: its task may come back as done, and is published once more.
        const least = Math.min(RANK[state] ?? 0, 2);
        assert.ok(
          (rank ?? -1) >= least,
          `${taskId} was ${state} and is ${task?.state ?? journal.lookup(taskId)}`,
        );
      }
      const [sample] = recovered.filter((task) => task.state !== 'done');
      if (sample !== undefined) {
        assert.ok((await journal.readTask(sample.taskId)).equals(Buffer.alloc(200, sample.taskId)));
      }
      await journal.close();
    }
    assert.ok(facts.size > 1000);
  }).timeout(120_000);
});
