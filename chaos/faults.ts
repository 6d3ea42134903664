/**
 * The faults, each as a function that applies it, lifts it, and writes both down. Scenarios are made of these, and `everything`
 * draws from them.
 */
import { readdirSync, readFileSync } from 'node:fs';

import { UnavailableError } from '../src/base/errors.ts';
import type { Scene } from './scene.ts';
import { evaluate, manage } from './servers.ts';

/** A fault. */
export type Fault = (scene: Scene) => Promise<void>;

const VHOST = '%2F';
const BLOCKED_MS = 3_000;
/** The broker's clock in Erlang, which is that of this machine. */
const NOW = 'os:system_time(millisecond)';

/** SIGKILL to the agent; its supervisor starts it again at once. */
export const killAgent: Fault = async (scene) => {
  scene.fault('agent-kill');
  await scene.agent.kill();
  scene.agent.start();
  scene.lifted('agent-kill');
};

/** SIGTERM to the agent, which drains; then it is started again. */
export const terminateAgent: Fault = async (scene) => {
  scene.fault('agent-term');
  await scene.agent.terminate();
  scene.agent.start();
  scene.lifted('agent-term');
};

/** SIGKILL to the worker host. */
export const killHost: Fault = async (scene) => {
  process.kill(await hostPid(scene), 'SIGKILL');
  scene.fault('host-kill');
  scene.lifted('host-kill');
};

/** SIGKILL to the Python interpreters: all of them, because an idle one has nothing to lose. */
export const killPython: Fault = async (scene) => {
  const host = await hostPid(scene);
  const interpreters = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => isInterpreterOf(pid, host));
  if (interpreters.length === 0) {
    throw new UnavailableError('NOT_INSTALLED', `worker host ${host} has no Python interpreter`);
  }
  for (const pid of interpreters) {
    process.kill(pid, 'SIGKILL');
  }
  scene.fault('python-kill');
  scene.lifted('python-kill');
};

/** The broker is ended in order and started again. */
export const restartBroker: Fault = async (scene) => {
  scene.fault('broker-restart');
  await scene.site.broker.stop();
  await scene.site.broker.start();
  scene.lifted('broker-restart');
};

/** SIGKILL to the broker, which is started again. */
export const killBroker: Fault = async (scene) => {
  scene.fault('broker-kill');
  await scene.site.broker.kill();
  await scene.site.broker.start();
  scene.lifted('broker-kill');
};

/** The broker raises its memory alarm: it reads nothing more from connections that publish. */
export const blockBroker: Fault = async (scene) => {
  // In one call, because the tool takes seconds to start: the broker itself says when it was.
  const times = await evaluate(
    scene.site.broker,
    `Limit = vm_memory_monitor:get_vm_memory_high_watermark(),
     vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1}), Begun = ${NOW},
     timer:sleep(${BLOCKED_MS}),
     vm_memory_monitor:set_vm_memory_high_watermark(Limit), [Begun, ${NOW}]`,
  );
  const [begunAt, endedAt] = JSON.parse(times) as [number, number];
  scene.fault('broker-blocked', begunAt);
  scene.lifted('broker-blocked', endedAt);
};

/** What the broker says is held back for a moment, then the connections are reset: results were published, and never confirmed. */
export const resetBeforeConfirm: Fault = async (scene) => {
  const { proxy } = scene.agent;
  scene.fault('connection-reset-before-confirm');
  proxy.hold('to-clients', true);
  await scene.pause(300);
  proxy.cut();
  proxy.hold('to-clients', false);
  scene.lifted('connection-reset-before-confirm');
};

/** The agent's connections fall silent without an end; new ones work. */
export const freezeConnections: Fault = async (scene) => {
  scene.fault('half-open');
  scene.agent.proxy.freeze();
  scene.lifted('half-open');
  await Promise.resolve();
};

/** The network is slow for a while, then silent for a while. */
export const slowNetwork: Fault = async (scene) => {
  const { proxy } = scene.agent;
  scene.fault('slow-network');
  proxy.throttle(20_000);
  await scene.pause(1_500);
  proxy.throttle(undefined);
  proxy.stall(true);
  await scene.pause(1_000);
  proxy.stall(false);
  scene.lifted('slow-network');
};

/** The broker closes every channel of the agent with an error, as it does after a mistake on one. */
export const closeChannels: Fault = async (scene) => {
  const said = await evaluate(
    scene.site.broker,
    `[${NOW}, length([Connection ! {channel_exit, Number, rabbit_misc:amqp_error(precondition_failed, "chaos", [], none)}
      || [{pid, Connection}, {user, User}] <- rabbit_networking:connection_info_all([pid, user]),
         binary:match(User, <<"ep.${scene.endpointId}">>) =/= nomatch,
         Number <- [1, 2]])]`,
  );
  const [at, count] = JSON.parse(said) as [number, number];
  scene.fault('channel-closed', at);
  scene.lifted('channel-closed', at);
  scene.expect(count > 0, 'the agent to have channels');
};

/** Somebody deletes the endpoint's task queue with what is in it. */
export const deleteQueue: Fault = async (scene) => {
  const queue = await taskQueue(scene);
  scene.fault('queue-deleted');
  await manage(scene.site.broker, 'DELETE', `/queues/${VHOST}/${encodeURIComponent(queue)}`);
  scene.lifted('queue-deleted');
};

/** The process of the task queue dies inside the broker, which cancels its consumers and starts it again with what is on disk. */
export const cancelConsumer: Fault = async (scene) => {
  const queue = await taskQueue(scene);
  const at = await evaluate(
    scene.site.broker,
    `{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"${queue}">>)), exit(amqqueue:get_pid(Q), kill), ${NOW}`,
  );
  scene.fault('consumer-cancelled', Number(at));
  scene.lifted('consumer-cancelled', Number(at));
};

/** SIGKILL to the hub, which is started again. */
export const killHub: Fault = async (scene) => {
  scene.fault('hub-kill');
  await scene.site.killHub();
  await scene.site.startHub();
  scene.lifted('hub-kill');
};

/** The database is ended in order and started again. */
export const restartDatabase: Fault = async (scene) => {
  scene.fault('postgres-restart');
  await scene.site.database.stop();
  await scene.site.database.start();
  scene.lifted('postgres-restart');
};

/** No tokens are given out while the agent, killed, has to start again. */
export const shutTokenEndpoint: Fault = async (scene) => {
  scene.fault('token-endpoint-down');
  scene.agent.gate.shut('/v2/oauth2/token');
  await scene.agent.kill();
  scene.agent.start();
  await scene.pause(2_000);
  scene.agent.gate.shut(undefined);
  scene.lifted('token-endpoint-down');
};

async function hostPid(scene: Scene): Promise<number> {
  const { worker_host_pid: pid } = await scene.agent.status();
  if (pid === null) {
    throw new UnavailableError('START_FAILED', 'the agent has no worker host now');
  }
  return pid;
}

function isInterpreterOf(pid: number, host: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (
      state !== 'Z' &&
      Number(parent) === host &&
      readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('outpost_worker')
    );
  } catch {
    // It ended while we looked.
    return false;
  }
}

async function taskQueue(scene: Scene): Promise<string> {
  const queues = (await manage(
    scene.site.broker,
    'GET',
    `/queues/${VHOST}?columns=name`,
  )) as readonly { readonly name: string }[];
  const queue = queues.find(
    ({ name }) => name.startsWith(`${scene.endpointId}.`) && name.endsWith('.tasks'),
  );
  if (queue === undefined) {
    throw new UnavailableError('START_FAILED', `endpoint ${scene.endpointId} has no task queue`);
  }
  return queue.name;
}
