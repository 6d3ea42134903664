/**
 * Puts a command on the queue of an endpoint.
 *
 * C1 A command is sent only while somebody consumes the queue, and lives for COMMAND_TTL_MS: what could not be delivered now must not
 *    stop an agent that is back hours later.
 */
import { systemClock } from '../../base/clock.ts';
import { withDeadline } from '../../base/deadline.ts';
import { UnavailableError } from '../../base/errors.ts';
import { COMMAND_TTL_MS } from '../../protocol/endpoint-commands.ts';
import type { EndpointCommandMessage } from '../../protocol/endpoint-commands.ts';
import type { AmqpConnection } from '../../transport/amqp/connection.ts';
import { COMMANDS_EXCHANGE } from '../broker/topology-table.ts';

/** Longest that looking at the queue, and the broker's confirm, may take, each, in milliseconds: somebody waits at a terminal. */
const STEP_LIMIT_MS = 4_000;

/** Sends a command; false when nobody listens. @throws UnavailableError when the broker did not take it. */
export async function sendCommand(
  connection: AmqpConnection,
  queue: string,
  message: EndpointCommandMessage,
): Promise<boolean> {
  const { consumerCount } = await connection.withChannel(
    async (channel) => await channel.checkQueue(queue),
    { timeoutMs: STEP_LIMIT_MS },
  );
  if (consumerCount === 0) {
    return false;
  }
  const publisher = await connection.openPublisher();
  try {
    const sent = publisher.publish(COMMANDS_EXCHANGE, queue, Buffer.from(JSON.stringify(message)), {
      mandatory: true,
      persistent: false,
      contentType: 'application/json',
      expirationMs: COMMAND_TTL_MS,
    });
    await withDeadline(
      systemClock,
      STEP_LIMIT_MS,
      sent,
      () => new UnavailableError('TIMED_OUT', 'the broker takes no messages at present; try again'),
    );
  } finally {
    await publisher.close();
  }
  return true;
}
