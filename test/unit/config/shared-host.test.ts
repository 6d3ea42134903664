/** Login nodes: what tells that there is a batch scheduler, and what follows from it. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ConfigError } from '../../../src/base/errors.ts';
import { resolveAgentConfig } from '../../../src/config/agent-config.ts';
import type { AgentConfigSources } from '../../../src/config/agent-config.ts';
import { findBatchScheduler } from '../../../src/config/batch-scheduler.ts';

const SBATCH = '/opt/slurm/bin/sbatch';

function resolved(sources: Partial<AgentConfigSources> = {}) {
  return resolveAgentConfig({ directory: '/endpoints/one', batchScheduler: SBATCH, ...sources });
}

describe('a host with a batch scheduler', () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'outpost-scheduler-'));
  });

  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  it('is known by a submit command that can be run, or by the directory of Slurm', () => {
    const bin = join(directory, 'bin');
    mkdirSync(bin);
    const places = { slurmDirectory: join(directory, 'slurm'), directories: [] };
    const environment = { PATH: `relative:/nowhere:${bin}` };
    assert.equal(findBatchScheduler(environment, places), undefined);
    writeFileSync(join(bin, 'qsub'), '#!/bin/sh\n');
    assert.equal(findBatchScheduler(environment, places), undefined);
    chmodSync(join(bin, 'qsub'), 0o755);
    assert.equal(findBatchScheduler(environment, places), join(bin, 'qsub'));
    // A service has a short PATH.
    assert.equal(findBatchScheduler({}, { ...places, directories: [bin] }), join(bin, 'qsub'));
    mkdirSync(places.slurmDirectory);
    assert.equal(findBatchScheduler({}, places), places.slurmDirectory);
  });

  it('runs nothing unless told to, and the settings say so', () => {
    const { config, origins } = resolved();
    assert.deepEqual([config.javascriptThreads, config.pythonInterpreters], [0, 0]);
    assert.equal(config.workerNice, 10);
    const [notice, ...others] = config.notices;
    assert.ok(notice !== undefined);
    assert.match(notice, /^No tasks will run on this host: a batch scheduler is installed/);
    assert.ok(notice.includes(SBATCH));
    assert.ok(notice.includes('/endpoints/one/config.yaml'));
    assert.deepEqual(others, []);
    const threads = origins.find(({ key }) => key === 'javascript_threads');
    assert.equal(threads?.source, `default of hosts with a batch scheduler (${SBATCH})`);
    assert.equal(threads.isDefault, true);
  });

  it('runs what any source of settings asks for', () => {
    const { config } = resolved({ environment: { OUTPOST_PYTHON_INTERPRETERS: '3' } });
    assert.deepEqual([config.javascriptThreads, config.pythonInterpreters], [0, 3]);
    assert.match(config.notices[0] ?? '', /^No JavaScript functions will run/);
    const both = resolved({ flags: { javascript_threads: '1', python_interpreters: '1' } });
    assert.deepEqual(both.config.notices, []);
    // Python only, on purpose: nothing is to be said about JavaScript.
    const one = resolved({ flags: { javascript_threads: '0', python_interpreters: '1' } });
    assert.deepEqual(one.config.notices, []);
  });

  it('is no excuse for settings with which nothing could run', () => {
    const flags = { javascript_threads: '0', python_interpreters: '0' };
    assert.throws(() => resolved({ flags }), ConfigError);
  });

  it('is an ordinary host where there is none', () => {
    const { config, origins } = resolved({ batchScheduler: undefined });
    assert.ok(config.javascriptThreads > 0);
    assert.equal(config.workerNice, 0);
    assert.deepEqual(config.notices, []);
    assert.ok(origins.every(({ source }) => source === 'default'));
  });
});
