/** The first command of the README, on what was built: it starts a hub with servers of its own and an agent, runs its tour, and leaves nothing. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { runProgram } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';

interface Report {
  readonly ok: boolean;
  readonly checks: readonly {
    readonly name: string;
    readonly ok: boolean;
    readonly skipped?: string;
  }[];
}

/** Processes in whose environment the directory stands: it gets through to whatever is started. */
function processesOf(directory: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return readFileSync(`/proc/${Number(pid)}/environ`, 'latin1').includes(directory);
    } catch {
      return false;
    }
  });
}

describe('the quickstart', function () {
  this.timeout(240_000);
  let home: string;
  let port: string;

  before(async () => {
    // The unmodified Python SDK, which knows no port but 5000, is the interop suite's.
    port = String(await freePort());
    home = mkdtempSync(join(tmpdir(), 'outpost-quick-'));
  });
  after(async () => {
    await quickstart('--stop');
    rmSync(home, { recursive: true, force: true });
  });

  async function quickstart(...args: string[]): Promise<CommandOutcome> {
    const env = { PATH: process.env['PATH'], HOME: home, LANG: 'C.UTF-8', OUTPOST_HUB_PORT: port };
    const script = join(packageRoot(), 'scripts/quickstart.mjs');
    return await runProgram(process.execPath, [script, ...args], { env, cwd: home });
  }

  it('runs functions in both languages, and stops everything', async () => {
    const { code, stdout, stderr } = await quickstart('--once', '--json');
    assert.equal(code, 0, `${stdout}\n${stderr}`);
    const line = stdout.split('\n').find((each) => each.startsWith('{"ok"')) ?? '';
    const { ok, checks } = JSON.parse(line) as Report;
    assert.equal(ok, true, line);
    assert.deepEqual(
      checks.map(({ name }) => name),
      ['javascript', 'python', 'exception', 'batch', 'globus-sdk'],
    );
    assert.ok(
      checks.every((check) => check.ok || check.name === 'globus-sdk'),
      line,
    );
    await eventually(() => {
      assert.deepEqual(processesOf(home), []);
    });
    assert.ok(existsSync(join(home, '.outpost/quickstart/config.yaml')));
  });
});
