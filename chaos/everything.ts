/** Random faults, one after the other, until the workload has nothing left to do. */
import { errorText } from '../src/base/errors.ts';
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
  slowNetwork,
  terminateAgent,
} from './faults.ts';
import type { Fault } from './faults.ts';
import type { Scene } from './scene.ts';

const FAULTS: readonly [Fault, ...Fault[]] = [
  killAgent,
  terminateAgent,
  killHost,
  killPython,
  resetBeforeConfirm,
  closeChannels,
  deleteQueue,
  cancelConsumer,
  killHub,
  restartDatabase,
  shutTokenEndpoint,
  slowNetwork,
  blockBroker,
  killBroker,
  restartBroker,
  freezeConnections,
];
const PAUSE_MIN_MS = 500;
const PAUSE_MAX_MS = 4_000;

/** Disturbs at random. */
export async function everything(scene: Scene): Promise<void> {
  await scene.reached(0.01);
  while (!scene.hasFinished) {
    const fault = scene.random.pick(FAULTS);
    const pauseMs = scene.random.integer(PAUSE_MIN_MS, PAUSE_MAX_MS);
    try {
      await fault(scene);
    } catch (error) {
      // A fault needs its victim: after a kill there may be no worker host yet. That is no verdict about the product.
      process.stderr.write(`a fault could not be applied: ${errorText(error)}\n`);
    }
    await superviseOthers(scene);
    await scene.pause(pauseMs);
  }
}

/** What ended by itself is started again, as systemd would, and written down: nothing of ours may end. */
async function superviseOthers(scene: Scene): Promise<void> {
  const { agent, site } = scene;
  if (agent.hasEnded) {
    scene.expect(false, 'the agent to run on; see agent.log');
    agent.start();
  }
  if (site.hubHasEnded) {
    scene.expect(false, 'the hub to run on; see hub.log');
    await site.startHub();
  }
  await site.broker.startIfStopped();
  await site.database.startIfStopped();
}
