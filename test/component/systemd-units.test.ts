/** The packaged units as systemd reads them: nothing to complain about, and hardened as far as was promised. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';
import { unitText } from '../../src/cli/agent/boot/unit-text.ts';
import type { UnitSettings } from '../../src/cli/agent/boot/unit-text.ts';

/** Exposure at most, as `systemd-analyze security` counts it (0 to 10). */
const EXPOSURE_MAX = 2.5;

describe('the packaged units', () => {
  let directory: string;

  before(function () {
    const { error } = spawnSync('systemd-analyze', ['--version']);
    if (error !== undefined) {
      this.test?.parent?.eachTest((test) => {
        test.title += ' (no systemd-analyze here: apt-get install systemd)';
      });
      this.skip();
    }
    directory = mkdtempSync(join(tmpdir(), 'outpost-units-'));
    cpSync(join(packageRoot(), 'systemd'), directory, { recursive: true, dereference: true });
    for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
      if (name.endsWith('.service')) {
        // What is not installed here would be complained about.
        const path = join(directory, name);
        const text = readFileSync(path, 'utf8');
        writeFileSync(path, text.replaceAll(/\/usr\/bin\/(agent|hub)/g, process.execPath));
      }
    }
  });

  after(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  function analyze(...args: string[]): { status: number | null; output: string } {
    // systemd 252 ends with 0 whatever it finds in a unit: only silence is good.
    const { status, stdout, stderr } = spawnSync('systemd-analyze', args, {
      encoding: 'utf8',
      cwd: directory,
      env: { PATH: process.env['PATH'], XDG_RUNTIME_DIR: directory, SYSTEMD_COLORS: '0' },
    });
    return { status, output: `${stdout}${stderr}` };
  }

  function write(name: string, settings: Partial<UnitSettings>): void {
    const text = unitText({
      kind: 'personal',
      command: [process.execPath, '/a place/with 100% of $x/agent.js'],
      home: '/home/alice/.outpost',
      path: '/opt/$x/bin:/usr/bin',
      stopTimeoutS: 90,
      lingers: true,
      ...settings,
    });
    writeFileSync(join(directory, name), text);
  }

  it('are read by systemd without a complaint', () => {
    const units = ['./agent@.service', './agent-worker@.service', './hub.service'];
    assert.deepEqual(analyze('verify', ...units), { status: 0, output: '' });
    const ofUser = analyze('verify', '--user', './user/agent@.service');
    assert.deepEqual(ofUser, { status: 0, output: '' });
  });

  it('are written for one endpoint so that systemd reads them without a complaint', () => {
    write('agent@mine.service', {});
    assert.deepEqual(analyze('verify', '--user', './agent@mine.service'), {
      status: 0,
      output: '',
    });
    write('agent@system.service', { user: 'root', lingers: false });
    write('agent@service.service', { kind: 'service', user: 'outpost', lingers: false });
    const units = ['./agent@system.service', './agent@service.service'];
    assert.deepEqual(analyze('verify', ...units), { status: 0, output: '' });
    const text = readFileSync(join(directory, 'agent@mine.service'), 'utf8');
    assert.match(
      text,
      /^ExecStart=\S+ "\/a place\/with 100%% of \$\$x\/agent.js" start %i --foreground --standby$/m,
    );
    assert.match(text, /^Environment="PATH=\/opt\/\$x\/bin:\/usr\/bin"$/m);
  });

  for (const unit of ['agent@.service', 'hub.service']) {
    it(`leave little to attack: ${unit}`, () => {
      const { output } = analyze('security', '--offline=true', `./${unit}`);
      const exposure = /exposure level for .*: (\d+\.\d)/.exec(output)?.[1];
      assert.ok(Number(exposure) <= EXPOSURE_MAX, output);
    });
  }
});
