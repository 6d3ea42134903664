/** The echo as something that can be measured like an agent. */
import { connect } from 'amqplib';

import { BenchProcess, brokerEnvironment } from '../child-process.ts';
import type { Destination } from '../generator-protocol.ts';

const IN_QUEUE = 'bench.echo.in';
const OUT_QUEUE = 'bench.echo.out';

/** A running echo. */
export interface Echo {
  readonly destination: Destination;
  readonly resultQueue: string;
  readonly pid: number;
  stop(): Promise<void>;
}

/** Declares two queues like those of the product (classic, durable) and starts the echo between them. */
export async function startEcho(amqpUrl: string): Promise<Echo> {
  const connection = await connect(amqpUrl, { noDelay: true });
  try {
    const channel = await connection.createChannel();
    await channel.assertQueue(IN_QUEUE, { durable: true });
    await channel.assertQueue(OUT_QUEUE, { durable: true });
  } finally {
    await connection.close();
  }
  const echo = await BenchProcess.start(
    'echo-process',
    [IN_QUEUE, OUT_QUEUE],
    brokerEnvironment(amqpUrl),
  );
  return {
    destination: { exchange: '', routingKey: IN_QUEUE },
    resultQueue: OUT_QUEUE,
    pid: echo.pid,
    stop: async () => {
      await echo.stop();
    },
  };
}
