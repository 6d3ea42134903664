/**
 * The hub's two connections to the broker, kept alive for ever: one consumes (results, heartbeats), one publishes (tasks to
 * endpoints, results to task groups).
 *
 * Two, because a broker under alarm stops reading from those that publish, and must not stall the acks. After a loss another broker
 * may have come up, or the same one without its data, so the topology is declared again before anything is consumed.
 */
import { sleep } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { dialAmqp } from '../../transport/amqp/connection.ts';
import type { AmqpConnection } from '../../transport/amqp/connection.ts';
import type { AmqpConsumer } from '../../transport/amqp/consumer.ts';
import type { SetUpEnded } from '../../transport/amqp/end-cause.ts';
import type { ConfirmPublisher } from '../../transport/amqp/publisher.ts';
import { AmqpSession } from '../../transport/amqp/session.ts';
import type { SessionState } from '../../transport/amqp/session.ts';
import type { RabbitTopology } from './topology.ts';

/** Publishes on a channel of its own, while there is one. */
interface PublishingUser {
  readonly online: (publisher: ConfirmPublisher) => void;
  readonly offline: () => void;
}

/** Settings of {@link BrokerSessions}. */
export interface BrokerSessionsOptions {
  readonly amqpUrl: string;
  /** Authorities that are trusted beside the system's (PEM). */
  readonly ca?: string;
  readonly topology: Pick<RabbitTopology, 'declareHub' | 'forget'>;
  /** Who consumes; each on a channel of its own. */
  readonly consumers: readonly {
    readonly consume: (connection: AmqpConnection) => Promise<AmqpConsumer>;
  }[];
  readonly publishers: readonly PublishingUser[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How the connections are. */
export interface BrokerSessionsHealth {
  readonly consuming: SessionState;
  readonly publishing: SessionState;
  /** Why the broker takes nothing at present, such as "low on disk". */
  readonly blocked: string | undefined;
}

/** A handful of hubs do not storm a broker that comes back, and everybody waits for them. */
const REDIAL = { baseMs: 100, maxMs: 2_000 };

/** Both connections. */
export class BrokerSessions {
  readonly #options: BrokerSessionsOptions;
  readonly #logger: Logger;
  readonly #consuming: AmqpSession;
  readonly #publishing: AmqpSession;
  #consumers: readonly AmqpConsumer[] = [];
  #blocked: string | undefined;
  #isTopologyFresh = true;
  #publishingConnection: AmqpConnection | undefined;

  constructor(options: BrokerSessionsOptions) {
    this.#options = options;
    this.#logger = options.logger;
    this.#consuming = this.#session(
      'hub-consuming',
      async (connection) => await this.#setUpConsuming(connection),
    );
    this.#publishing = this.#session(
      'hub-publishing',
      async (connection) => await this.#setUpPublishing(connection),
    );
  }

  /** What publishes; undefined while the broker is gone. */
  get publishingConnection(): AmqpConnection | undefined {
    return this.#publishingConnection;
  }

  health(): BrokerSessionsHealth {
    return {
      consuming: this.#consuming.state,
      publishing: this.#publishing.state,
      blocked: this.#blocked,
    };
  }

  /** Why one of them is not there; undefined when both are, or on their way. */
  get offlineReason(): string | undefined {
    return [this.#consuming.state, this.#publishing.state]
      .flatMap((state) => (state.phase === 'offline' ? [state.reason] : []))
      .at(0);
  }

  /** Call once the topology stands; resolves when both connections are there. */
  async start(signal: AbortSignal): Promise<void> {
    const online = [this.#consuming, this.#publishing].map(async (session) => {
      session.start();
      while (session.state.phase !== 'online') {
        await sleep(this.#options.clock, 10, signal);
      }
    });
    await Promise.all(online);
  }

  /** Takes nothing more; what was taken can still be acked. */
  async cancelConsumers(): Promise<void> {
    await Promise.all(
      this.#consumers.map(async (consumer) => {
        await consumer.cancel();
      }),
    );
  }

  /** Closes both. */
  async stop(): Promise<void> {
    await Promise.all([this.#consuming.stop(), this.#publishing.stop()]);
  }

  #session(
    name: string,
    setUp: (connection: AmqpConnection) => Promise<{ broken: Promise<SetUpEnded> }>,
  ): AmqpSession {
    const { amqpUrl, ca, clock, logger } = this.#options;
    return new AmqpSession({
      clock,
      logger,
      name,
      dial: async ({ signal }) =>
        await dialAmqp({
          url: amqpUrl,
          connectionName: `outpost ${name}`,
          signal,
          ...(ca !== undefined && { ca }),
        }),
      setUp,
      backoff: REDIAL,
    });
  }

  async #setUpConsuming(connection: AmqpConnection): Promise<{ broken: Promise<SetUpEnded> }> {
    await this.#refreshTopology();
    const consumers: AmqpConsumer[] = [];
    for (const user of this.#options.consumers) {
      consumers.push(await user.consume(connection));
    }
    this.#consumers = consumers;
    return { broken: firstOf(consumers.map(async (consumer) => await consumer.ended)) };
  }

  async #refreshTopology(): Promise<void> {
    if (this.#isTopologyFresh) {
      this.#isTopologyFresh = false;
      return;
    }
    const { topology } = this.#options;
    topology.forget();
    try {
      await topology.declareHub();
    } catch (error) {
      // Not needed when nothing was lost; if something was, consuming fails next and says so.
      this.#logger.warn({ err: error }, 'cannot declare the topology again');
    }
  }

  async #setUpPublishing(connection: AmqpConnection): Promise<{ broken: Promise<SetUpEnded> }> {
    const { publishers } = this.#options;
    const opened: { user: PublishingUser; channel: ConfirmPublisher }[] = [];
    for (const user of publishers) {
      opened.push({ user, channel: await connection.openPublisher() });
    }
    this.#blocked = undefined;
    connection.onBlocked((isBlocked, reason) => {
      this.#blocked = isBlocked ? reason : undefined;
      this.#logger.warn({ isBlocked, reason }, 'the broker changed its mind about taking messages');
    });
    this.#publishingConnection = connection;
    for (const { user, channel } of opened) {
      user.online(channel);
    }
    const broken = firstOf(opened.map(async ({ channel }) => await channel.closed)).then((end) => {
      this.#publishingConnection = undefined;
      for (const user of publishers) {
        user.offline();
      }
      return end;
    });
    return { broken };
  }
}

/** The first end of several, none of which rejects. */
async function firstOf(ends: readonly Promise<SetUpEnded>[]): Promise<SetUpEnded> {
  return await new Promise((resolve, reject) => {
    for (const end of ends) {
      end.then(resolve, reject);
    }
  });
}
