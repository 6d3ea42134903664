/**
 * Takes what the owner of the endpoint says through the hub, from the command queue.
 *
 * C3 A command is obeyed only by the agent that holds the very lease that it names: one that was meant for an earlier agent stops nobody.
 * C4 It is acked before it is carried out, so that none is carried out twice; what became of it stands in the next heartbeat, which
 *    is sent at once.
 * C5 Without commands an agent works all the same: a hub that knows no command queue, or a consumer that is refused, is only logged.
 */
import type { Clock } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { detach } from '../../base/logger.ts';
import { ENDPOINT_COMMANDS } from '../../protocol/endpoint-commands.ts';
import type { CommandOutcome, EndpointCommandMessage } from '../../protocol/endpoint-commands.ts';
import type { AmqpConnection } from '../../transport/amqp/connection.ts';
import type { AmqpConsumer } from '../../transport/amqp/consumer.ts';
import type { AgentCommands } from './agent-commands.ts';

/** Collaborators. */
export interface CommandIntakeOptions {
  readonly methods: AgentCommands;
  /** The lease that is held. */
  readonly epoch: () => number | undefined;
  /** `last` has changed. */
  readonly onOutcome: () => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Consumes commands. */
export class CommandIntake {
  readonly #options: CommandIntakeOptions;
  #last: CommandOutcome | undefined;
  /** Commands are carried out one after the other. */
  #working: Promise<void> = Promise.resolve();

  constructor(options: CommandIntakeOptions) {
    this.#options = options;
  }

  /** What became of the last command. */
  get last(): CommandOutcome | undefined {
    return this.#last;
  }

  /** Consumes on a new connection, for as long as that lasts. Never rejects. */
  async begin(connection: AmqpConnection, queue: string): Promise<void> {
    const { logger } = this.#options;
    try {
      const opened: AmqpConsumer = await connection.openConsumer({
        queue,
        prefetch: 1,
        onDelivery: ({ deliveryTag, body }) => {
          opened.ack(deliveryTag);
          this.#take(body);
        },
      });
    } catch (error) {
      logger.warn(
        { reason: errorText(error) },
        'commands through the hub are not taken: the command queue cannot be consumed',
      );
    }
  }

  #take(body: Buffer): void {
    const { epoch, logger } = this.#options;
    const message = readMessage(body);
    if (message === undefined) {
      logger.warn({ bytes: body.length }, 'an unknown message came on the command queue');
      return;
    }
    const { command, command_id: commandId, lease_epoch: leaseEpoch, by, reason } = message;
    const held = epoch();
    if (leaseEpoch !== held) {
      logger.warn(
        { command, commandId, leaseEpoch, held },
        'a command for another lease was ignored',
      );
      return;
    }
    logger.info({ command, commandId, by, reason }, 'command received through the hub');
    this.#working = this.#working.then(async () => {
      await this.#carryOut(message);
    });
    detach(logger, 'carrying out a command', this.#working);
  }

  async #carryOut(message: EndpointCommandMessage): Promise<void> {
    const { methods, clock, onOutcome, logger } = this.#options;
    const { command, command_id: commandId, by, reason } = message;
    let failure: string | null = null;
    let result: unknown = null;
    try {
      result = await methods[command]({ by, reason });
    } catch (error) {
      failure = errorText(error);
      logger.warn({ command, commandId, reason: failure }, 'a command could not be carried out');
    }
    this.#last = {
      command_id: commandId,
      command,
      at: new Date(clock.now()).toISOString(),
      ok: failure === null,
      error: failure,
      result,
    };
    onOutcome();
  }
}

function readMessage(body: Buffer): EndpointCommandMessage | undefined {
  let read: unknown;
  try {
    read = JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof read !== 'object' || read === null) {
    return undefined;
  }
  const {
    command,
    command_id: id,
    lease_epoch: epoch,
    by,
    reason,
  } = read as Record<string, unknown>;
  const known = ENDPOINT_COMMANDS.find((name) => name === command);
  return known !== undefined && typeof id === 'string' && typeof epoch === 'number'
    ? {
        command: known,
        command_id: id,
        lease_epoch: epoch,
        ...(typeof by === 'string' && { by }),
        ...(typeof reason === 'string' && { reason }),
      }
    : undefined;
}
