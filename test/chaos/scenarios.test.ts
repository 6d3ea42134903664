/**
 * Every chaos scenario, short. The supervisor is a program of its own, started once; scenarios that leave broker, database and hub in
 * peace run beside each other. `npm run chaos` runs one at full length.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import type { ScenarioReport } from '../../chaos/run-scenario.ts';
import { SCENARIOS } from '../../chaos/scenarios.ts';

const SUPERVISOR = fileURLToPath(new URL('../../chaos/supervisor.js', import.meta.url));
const SEED = 1;
const TASKS = 48;
const JOBS = 3;
/** For all of them: each waits for its own report only. */
const LIMIT_MS = 10 * 60_000;

describe('chaos', function () {
  this.timeout(LIMIT_MS);
  const reports = new Map<string, ScenarioReport>();
  const waiting = new Map<string, () => void>();
  let supervisor: ChildProcess;
  let said = '';
  let ended: Promise<unknown>;

  before(() => {
    const options = { scenario: 'all', seed: SEED, tasks: TASKS, jobs: JOBS };
    const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const command = [process.execPath, SUPERVISOR, '--json', ...args];
    const child = spawn('setpriv', ['--pdeathsig=KILL', '--', ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    supervisor = child;
    ended = once(child, 'close');
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const report = JSON.parse(line) as ScenarioReport;
      reports.set(report.scenario, report);
      waiting.get(report.scenario)?.();
    });
  });

  after(async () => {
    if (supervisor.exitCode === null && supervisor.signalCode === null) {
      supervisor.kill();
      await ended;
    }
  });

  async function reportOf(name: string): Promise<ScenarioReport> {
    const reported = new Promise<void>((resolve) => {
      waiting.set(name, resolve);
    });
    if (!reports.has(name)) {
      await Promise.any([reported, ended]);
    }
    return reports.get(name) ?? assert.fail(`the supervisor ended without a report: ${said}`);
  }

  for (const { name, summary } of SCENARIOS) {
    it(`${name}: no task is lost, run twice or told twice when ${summary}`, async function () {
      const report = await reportOf(name);
      if (report.skipped !== undefined) {
        this.skip();
      }
      assert.deepEqual(report.problems, [], JSON.stringify(report));
      assert.equal(report.submitted, TASKS);
      assert.equal(report.succeeded + report.failedNamed, TASKS);
      assert.equal(report.survivors, 0);
    });
  }

  it('leaves no process and no socket behind', async () => {
    await ended;
    assert.doesNotMatch(said, /still there/);
  });
});
