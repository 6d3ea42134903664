/** The scenarios, as one table. A new one is a row here; its fault, when others may use it, a function in faults.ts. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { errorCode, errorText } from '../src/base/errors.ts';
import type { AgentSetting } from './agent-under-test.ts';
import { everything } from './everything.ts';
import {
  blockBroker,
  cancelConsumer,
  closeChannels,
  deleteQueue,
  freezeConnections,
  killAgent,
  killBroker,
  killHost,
  killHub,
  killPython,
  resetBeforeConfirm,
  restartBroker,
  restartDatabase,
  shutTokenEndpoint,
  terminateAgent,
} from './faults.ts';
import type { Fault } from './faults.ts';
import type { Scenario, Scene } from './scene.ts';

const FAKETIME = '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1';
const FAKETIME_LIBRARIES = [FAKETIME, FAKETIME.replace('x86_64', 'aarch64')];
const TMPFS_MIB = 48;
const EXIT_ALREADY_RUNNING = 73;
const SECOND_START_MS = 90_000;
const FENCED_END_MS = 60_000;

/** Applies a fault when a share of the tasks has ended. */
function when(share: number, fault: Fault): (scene: Scene) => Promise<void> {
  return async (scene) => {
    await scene.reached(share);
    await fault(scene);
  };
}

function clockFile(directory: string): string {
  return join(directory, 'clock');
}

function faketimeLibrary(): string | undefined {
  return FAKETIME_LIBRARIES.find((path) => existsSync(path));
}

async function jumpClock(scene: Scene): Promise<void> {
  await scene.reached(0.2);
  scene.fault('clock-jump');
  // An hour ahead, then two hours back, then right again.
  for (const offset of ['+3600', '-7200', '+0']) {
    writeFileSync(clockFile(scene.directory), `${offset}\n`);
    await scene.pause(1_200);
  }
  scene.lifted('clock-jump');
}

async function fillDisk(scene: Scene): Promise<void> {
  const { home } = scene.agent;
  const filler = join(home, 'filler');
  await scene.reached(0.2);
  scene.fault('disk-full');
  const { bavail, bsize } = statfsSync(home);
  try {
    writeFileSync(filler, Buffer.alloc(bavail * bsize, 1));
  } catch (error) {
    if (errorCode(error) !== 'ENOSPC') {
      throw error;
    }
  }
  await scene.pause(3_000);
  const { paused } = await scene.agent.status();
  scene.expect(
    paused.includes('journal-full'),
    `status to say journal-full, not [${paused.join(', ')}]`,
  );
  rmSync(filler);
  scene.lifted('disk-full');
}

async function startTwo(scene: Scene): Promise<void> {
  await scene.reached(0.15);
  const { agent } = scene;
  const same = await agent.startSecond(undefined).endsWithin(SECOND_START_MS, 'the second start');
  scene.expect(
    same.code === EXIT_ALREADY_RUNNING,
    `exit code 73 of a second start here, not ${same.code ?? same.signal ?? ''}`,
  );
  const other = await agent
    .startSecond('elsewhere')
    .endsWithin(SECOND_START_MS, 'the start elsewhere');
  scene.expect(
    other.code !== 0 && other.code !== null,
    `a start on another host to be refused, not exit code ${other.code ?? other.signal ?? ''}`,
  );
  const said = readFileSync(join(scene.directory, 'second.log'), 'utf8');
  scene.expect(said.includes('--takeover'), 'the refusal to name --takeover');
  scene.fault('takeover');
  const successor = agent.startSecond('successor', ['--takeover']);
  scene.lifted('takeover');
  scene.release();
  try {
    const fencedBy = Date.now() + FENCED_END_MS;
    while (
      !successor.hasEnded &&
      !(scene.hasFinished && (agent.hasEnded || Date.now() > fencedBy))
    ) {
      await scene.pause(100);
    }
    scene.expect(!successor.hasEnded, 'the agent that took over to run on; see second.log');
    scene.expect(agent.hasEnded, `the fenced agent to end within ${FENCED_END_MS / 1000} s`);
  } finally {
    if (!successor.hasEnded) {
      successor.signal('SIGTERM');
      await successor.endsWithin(SECOND_START_MS, 'the agent that took over');
    }
  }
}

function mountSmall(directory: string): ReturnType<NonNullable<Scenario['prepare']>> {
  const home = join(directory, 'outpost');
  mkdirSync(home, { mode: 0o700 });
  try {
    const options = ['-t', 'tmpfs', '-o', `size=${TMPFS_MIB}m,mode=700`, 'tmpfs', home];
    execFileSync('mount', options, { stdio: 'pipe' });
  } catch (error) {
    return {
      skip: `cannot mount a tmpfs, which takes root: ${errorText(error).split('\n')[0] ?? ''}`,
    };
  }
  return {
    undo: () => {
      execFileSync('umount', [home]);
    },
  };
}

async function resetThrice(scene: Scene): Promise<void> {
  for (const share of [0.2, 0.4, 0.6]) {
    await scene.reached(share);
    await resetBeforeConfirm(scene);
  }
}

function underFaketime(directory: string): AgentSetting {
  writeFileSync(clockFile(directory), '+0\n');
  return {
    env: {
      LD_PRELOAD: faketimeLibrary() ?? '',
      FAKETIME_TIMESTAMP_FILE: clockFile(directory),
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    },
  };
}

/** All scenarios, in the order in which `all` runs them. */
export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'agent-kill',
    isLocal: true,
    summary: 'the agent is killed with SIGKILL and started again',
    disturb: when(0.25, killAgent),
  },
  {
    name: 'agent-term',
    isLocal: true,
    summary: 'the agent is asked to end while tasks run, and started again',
    disturb: when(0.25, terminateAgent),
  },
  {
    name: 'host-kill',
    isLocal: true,
    summary: 'the worker host is killed with all that runs in it',
    disturb: when(0.25, killHost),
  },
  {
    name: 'python-kill',
    isLocal: true,
    summary: 'the Python interpreters are killed',
    disturb: when(0.25, killPython),
  },
  {
    name: 'connection-reset-before-confirm',
    isLocal: true,
    summary:
      'connections are reset after results were published and before the broker’s confirms arrive, three times',
    disturb: resetThrice,
  },
  {
    name: 'channel-closed',
    isLocal: true,
    summary: 'the broker closes the agent’s channels with an error',
    disturb: when(0.25, closeChannels),
  },
  {
    name: 'queue-deleted',
    isLocal: true,
    summary: 'the task queue is deleted with the tasks that wait in it',
    disturb: when(0.25, deleteQueue),
  },
  {
    name: 'consumer-cancelled',
    isLocal: true,
    summary: 'the task queue dies inside the broker, which cancels its consumers',
    disturb: when(0.25, cancelConsumer),
  },
  {
    name: 'hub-kill',
    isLocal: false,
    summary: 'the hub is killed while tasks are submitted, and started again',
    disturb: when(0.2, killHub),
  },
  {
    name: 'postgres-restart',
    isLocal: false,
    summary: 'the database is restarted under load',
    disturb: when(0.2, restartDatabase),
  },
  {
    name: 'token-endpoint-down',
    isLocal: true,
    summary: 'the agent is killed and must start while nobody gives out tokens',
    disturb: when(0.25, shutTokenEndpoint),
  },
  {
    name: 'clock-jump',
    isLocal: true,
    summary: 'the agent’s clock jumps an hour ahead, then two hours back',
    prepare: () =>
      faketimeLibrary() === undefined
        ? { skip: 'libfaketime is missing: apt-get install -y --no-install-recommends faketime' }
        : { undo: () => undefined },
    agent: underFaketime,
    disturb: jumpClock,
  },
  {
    name: 'two-agents',
    isLocal: true,
    summary: 'a second agent is refused, here and elsewhere, then takes over',
    disturb: startTwo,
  },
  {
    name: 'disk-full',
    isLocal: true,
    summary: 'the disk under the agent’s directory is full for a while',
    prepare: mountSmall,
    disturb: fillDisk,
  },
  {
    name: 'broker-blocked',
    isLocal: false,
    summary: 'the broker raises its memory alarm for a while',
    disturb: when(0.2, blockBroker),
  },
  {
    name: 'broker-kill',
    isLocal: false,
    summary: 'the broker is killed and started again',
    extraMs: 30_000,
    disturb: when(0.2, killBroker),
  },
  {
    name: 'broker-restart',
    isLocal: false,
    summary: 'the broker is restarted in order',
    extraMs: 40_000,
    disturb: when(0.2, restartBroker),
  },
  {
    name: 'half-open',
    isLocal: true,
    summary: 'the agent’s connections fall silent without an end',
    extraMs: 40_000,
    disturb: when(0.25, freezeConnections),
  },
  {
    name: 'everything',
    isLocal: false,
    summary: 'faults at random, for as long as the workload submits',
    submitMs: 20_000,
    extraMs: 60_000,
    disturb: everything,
  },
];
