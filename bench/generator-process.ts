/**
 * The load generator: a process of its own, so that what it costs is the same in every row. Messages are packed before the clock
 * starts and published in one go; results are counted and thrown away, without acks.
 */
import assert from 'node:assert/strict';

import { connect } from 'amqplib';

import { BROKER_URL_VARIABLE } from './generator-protocol.ts';
import type { GeneratorReply, GeneratorRequest, GeneratorSetup } from './generator-protocol.ts';
import { taskMaker } from './task-bodies.ts';
import type { TaskMessage } from './task-bodies.ts';

const { resultQueues } = JSON.parse(process.argv[2] ?? '{}') as GeneratorSetup;
const url = process.env[BROKER_URL_VARIABLE] ?? '';
const FAILED = Buffer.from('"error_details":{');
const WARM_UP_COUNT = 20;
/** Messages on their way to the broker at once while a queue is filled. */
const FILL_CHUNK = 2_000;

// Two connections, as any client should: a broker that holds back a publisher must not hold back its results.
const publishing = await connect(url, { noDelay: true });
const consuming = await connect(url, { noDelay: true });
const channel = await publishing.createConfirmChannel();
const results = await consuming.createChannel();

let resultCount = 0;
let wantedCount = Number.POSITIVE_INFINITY;
let whenWanted: () => void = () => undefined;
let failure: string | undefined;

for (const queue of resultQueues) {
  await results.consume(
    queue,
    (message) => {
      assert.ok(message !== null, `the queue ${queue} was deleted`);
      resultCount += 1;
      if (failure === undefined && message.content.includes(FAILED)) {
        failure = message.content.toString('utf8', 0, 2_000);
      }
      if (resultCount === wantedCount) {
        whenWanted();
      }
    },
    { noAck: true },
  );
}

async function resultsUntil(count: number): Promise<void> {
  wantedCount = count;
  if (resultCount < count) {
    await new Promise<void>((resolve) => {
      whenWanted = resolve;
    });
  }
  wantedCount = Number.POSITIVE_INFINITY;
}

function publish(
  request: { destination: { exchange: string; routingKey: string } },
  message: TaskMessage,
): void {
  channel.publish(request.destination.exchange, request.destination.routingKey, message.body, {
    persistent: true,
    headers: message.headers,
  });
}

async function roundTrips(
  request: Extract<GeneratorRequest, { op: 'latency' }>,
  count: number,
  make: () => TaskMessage,
): Promise<number[]> {
  const times: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const message = make();
    resultCount = 0;
    const begun = performance.now();
    publish(request, message);
    await resultsUntil(1);
    times.push(performance.now() - begun);
  }
  return times;
}

async function fill(
  request: Extract<GeneratorRequest, { op: 'fill' }>,
  make: () => TaskMessage,
): Promise<void> {
  for (let index = 0; index < request.count; index += 1) {
    publish(request, make());
    if (index % FILL_CHUNK === FILL_CHUNK - 1) {
      await channel.waitForConfirms();
    }
  }
  await channel.waitForConfirms();
}

async function perform(request: GeneratorRequest): Promise<number[]> {
  const make = taskMaker(request.kind, request.argument);
  if (request.op === 'latency') {
    await roundTrips(request, Math.min(WARM_UP_COUNT, request.samples), make);
    return await roundTrips(request, request.samples, make);
  }
  resultCount = 0;
  if (request.op === 'fill') {
    await fill(request, make);
    return [];
  }
  const messages = Array.from({ length: request.count }, make);
  const begun = performance.now();
  for (const message of messages) {
    publish(request, message);
  }
  await resultsUntil(request.count);
  return [performance.now() - begun];
}

process.on('message', (request: GeneratorRequest) => {
  failure = undefined;
  perform(request).then(
    (times) => {
      const reply: GeneratorReply = { times, ...(failure !== undefined && { failure }) };
      process.send?.(reply);
    },
    (error: unknown) => {
      // The parent sees the process end, with this on stderr.
      process.nextTick(() => {
        throw error;
      });
    },
  );
});
// The bench is gone: nobody wants to know any more.
process.once('disconnect', () => {
  process.exit(0);
});
process.send?.('ready');
