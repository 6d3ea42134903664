/** A CPU profile of control process and worker host while they run no-op JavaScript tasks, as picture and as µs per task. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { packageRoot } from '../../src/base/package-root.ts';
import { eventually } from '../../test/support/eventually.ts';
import { PROFILE_DIRECTORY_VARIABLE } from '../agent-variables.ts';
import { readCpuProfile } from '../cpu-profile.ts';
import { flameGraph } from '../flame-graph.ts';
import { Generator } from '../generator.ts';
import { profilePath, startedPath } from '../profile-on-signal.ts';
import { CATEGORIES, summarize } from '../profile-summary.ts';
import type { ProfileSummary, Report } from '../report.ts';
import { round } from '../statistics.ts';
import { JAVASCRIPT_ONLY, RESULTS_QUEUE } from './context.ts';
import type { BenchContext } from './context.ts';

const WARM_UP_COUNT = 2_000;
const PROFILER_LIMIT_MS = 30_000;
const TITLES = { agent: 'control process', host: 'worker host, main thread' } as const;

/** Profiles one burst. */
export async function measureProfile({
  site,
  options,
  say,
}: BenchContext): Promise<NonNullable<Report['profile']>> {
  const output = options.outputDirectory ?? join(packageRoot(), '.cache', 'bench');
  await mkdir(output, { recursive: true });
  const scratch = await mkdtemp(join(tmpdir(), 'outpost-profile-'));
  const agent = await site.startAgent('profiled', {
    settings: JAVASCRIPT_ONLY,
    entryVariables: { [PROFILE_DIRECTORY_VARIABLE]: scratch },
  });
  await site.useHub(false);
  const generator = await Generator.start(site.amqpUrl, [RESULTS_QUEUE]);
  const both = async (path: (directory: string, name: string) => string): Promise<void> => {
    process.kill(agent.pid, 'SIGUSR2');
    process.kill(agent.hostPid, 'SIGUSR2');
    await eventually(() => {
      for (const name of ['agent', 'host']) {
        assert.ok(existsSync(path(scratch, name)), `the profiler of the ${name} did not answer`);
      }
    }, PROFILER_LIMIT_MS);
  };
  try {
    await generator.burst(
      agent.destination,
      'javascript-noop',
      Math.min(WARM_UP_COUNT, options.taskCount),
    );
    await both(startedPath);
    const rate = await generator.burst(agent.destination, 'javascript-noop', options.taskCount);
    await both(profilePath);
    say(`profile: ${rate.toFixed(0)} tasks/s while profiled`);
    const write = async (name: 'agent' | 'host'): Promise<ProfileSummary> =>
      await writeProfile(name, scratch, output, options.taskCount);
    return { agent: await write('agent'), host: await write('host') };
  } finally {
    await generator.stop();
    await agent.stop();
    await rm(scratch, { recursive: true, force: true });
  }
}

async function writeProfile(
  name: 'agent' | 'host',
  from: string,
  to: string,
  tasks: number,
): Promise<ProfileSummary> {
  const tree = await readCpuProfile(profilePath(from, name));
  const profile = profilePath(to, name);
  const picture = join(to, `${name}.svg`);
  await copyFile(profilePath(from, name), profile);
  await writeFile(
    picture,
    flameGraph(tree, `agent, ${TITLES[name]}: ${tasks} no-op JavaScript tasks`, tasks),
  );
  const micros = summarize(tree);
  return {
    tasks,
    wallMicrosPerTask: round(tree.wallMicros / tasks, 1),
    microsPerTask: Object.fromEntries(
      CATEGORIES.map((category) => [category, round(micros[category] / tasks, 1)]),
    ),
    profile,
    picture,
  };
}
