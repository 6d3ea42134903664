/**
 * The yardstick: the least that a process can do which takes a message and answers it as safely as the agent does. Raw amqplib, noDelay,
 * prefetch 256; the answer is published, confirmed by the broker, and only then is the message acked. Nothing is run, nothing is kept.
 */
import assert from 'node:assert/strict';

import { connect } from 'amqplib';

import { BROKER_URL_VARIABLE } from './generator-protocol.ts';

const PREFETCH = 256;
const [, , inQueue, outQueue] = process.argv;
assert.ok(inQueue !== undefined && outQueue !== undefined, 'usage: echo-process.js IN OUT');

const connection = await connect(process.env[BROKER_URL_VARIABLE] ?? '', { noDelay: true });
const publisher = await connection.createConfirmChannel();
const consumer = await connection.createChannel();
await consumer.prefetch(PREFETCH);
await consumer.consume(inQueue, (message) => {
  assert.ok(message !== null, `the queue ${inQueue} was deleted`);
  publisher.sendToQueue(outQueue, message.content, { persistent: true }, (error: unknown) => {
    assert.ok(
      error === null || error === undefined,
      `the broker did not confirm: ${String(error)}`,
    );
    consumer.ack(message);
  });
});
// The bench is gone: nobody wants to know any more.
process.once('disconnect', () => {
  process.exit(0);
});
process.send?.('ready');
