/**
 * The management API of RabbitMQ, as far as the topology needs it.
 *
 * Every call is safe to send twice, so each is tried again once when no reply came. Times are bounded: registrations and
 * submissions wait for these calls. What an operator must repair is a ConfigError, what may pass an UnavailableError.
 */
import { sleep } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import { ConfigError, ProtocolError, UnavailableError, errorText } from '../../base/errors.ts';
import { HttpTransport } from '../../transport/http/http-transport.ts';
import type { HttpReply } from '../../transport/http/http-transport.ts';
import type { ExchangeRow, QueueRow, UserRow } from './topology-table.ts';

const SETTING = 'OUTPOST_AMQP_MANAGEMENT_URL';
const TIMEOUT_MS = 10_000;
const RETRIES = 1;
/** How often, and after how long, a broker that stumbled over a closing connection is asked again. */
const CLOSE_ATTEMPTS = 20;
const CLOSE_RETRY_MS = 100;

/** Settings of a {@link ManagementClient}. */
export interface ManagementClientOptions {
  /** With user and password, such as `http://user:password@127.0.0.1:15672`; may have a path. */
  readonly url: string;
  readonly vhost: string;
  readonly clock: Clock;
  /** Authorities that are trusted beside the system's (PEM). */
  readonly ca?: string;
  readonly timeoutMs?: number;
}

/** Talks to the management API about one vhost. @throws ConfigError when the URL is not acceptable. */
export class ManagementClient {
  readonly #clock: Clock;
  readonly #transport: HttpTransport;
  readonly #base: string;
  readonly #authorization: string;
  readonly #vhost: string;
  readonly #vhostName: string;

  constructor(options: ManagementClientOptions) {
    this.#clock = options.clock;
    const url = parseUrl(options.url);
    const userInfo = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
    this.#authorization = `Basic ${Buffer.from(userInfo, 'utf8').toString('base64')}`;
    this.#base = `${url.origin}${url.pathname.replace(/\/+$/, '')}/api`;
    this.#vhostName = options.vhost;
    this.#vhost = encodeURIComponent(options.vhost);
    this.#transport = new HttpTransport({
      serverName: `the RabbitMQ management API (${SETTING})`,
      clock: options.clock,
      timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
      retries: RETRIES,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    });
  }

  /** Declares a durable exchange. */
  async putExchange({ name, type }: ExchangeRow): Promise<void> {
    await this.#call('PUT', `/exchanges/${this.#vhost}/${encodeURIComponent(name)}`, {
      type,
      durable: true,
    });
  }

  /** Declares a durable queue with its binding. Returns whether the queue is new. */
  async putQueue(queue: QueueRow): Promise<boolean> {
    const name = encodeURIComponent(queue.name);
    const { status } = await this.#call('PUT', `/queues/${this.#vhost}/${name}`, {
      durable: true,
      auto_delete: false,
      arguments: queue.arguments,
    });
    if (queue.binding !== undefined) {
      const exchange = encodeURIComponent(queue.binding.exchange);
      await this.#call('POST', `/bindings/${this.#vhost}/e/${exchange}/q/${name}`, {
        routing_key: queue.binding.routingKey,
      });
    }
    return status === 201;
  }

  /** Deletes a queue; fine when there is none. */
  async deleteQueue(name: string): Promise<void> {
    await this.#call(
      'DELETE',
      `/queues/${this.#vhost}/${encodeURIComponent(name)}`,
      undefined,
      404,
    );
  }

  /** Makes a user, or gives the one there is this password, with exactly these rights. */
  async putUser(user: UserRow, password: string): Promise<void> {
    const name = encodeURIComponent(user.name);
    await this.#call('PUT', `/users/${name}`, { password, tags: '' });
    await this.#putRights(user);
  }

  /** Leaves a user that exists these rights only, and closes its connections, so that they hold at once. */
  async restrictUser(user: UserRow): Promise<void> {
    await this.#putRights(user);
    await this.#closeConnections(user.name);
  }

  async #putRights(user: UserRow): Promise<void> {
    const name = encodeURIComponent(user.name);
    for (const { exchange, write } of user.topics) {
      // Before the permissions: without a topic permission every routing key is allowed.
      await this.#call('PUT', `/topic-permissions/${this.#vhost}/${name}`, {
        exchange,
        write,
        read: '^$',
      });
    }
    await this.#call('PUT', `/permissions/${this.#vhost}/${name}`, {
      configure: user.configure,
      write: user.write,
      read: user.read,
    });
  }

  /** Names of the users that begin with `prefix`. */
  async usersWithPrefix(prefix: string): Promise<string[]> {
    const { text } = await this.#call('GET', '/users?columns=name');
    return namesIn(text).filter((name) => name.startsWith(prefix));
  }

  /** Deletes a user and closes its connections; fine when there is none. */
  async deleteUser(user: string): Promise<void> {
    const name = encodeURIComponent(user);
    // The user goes first, so that it cannot come back between the two.
    await this.#call('DELETE', `/users/${name}`, undefined, 404);
    await this.#closeConnections(user);
  }

  /**
   * Closes the connections of a user. The broker closes them by itself too, a moment after it deleted the user, and answers 500
   * when one of them vanishes under its own hands: asking again is all that it takes.
   */
  async #closeConnections(user: string): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      const isLast = attempt === CLOSE_ATTEMPTS;
      const path = `/connections/username/${encodeURIComponent(user)}`;
      const fine = isLast ? [404, 405] : [404, 405, 500];
      const { status } = await this.#call('DELETE', path, undefined, ...fine);
      if (status === 404 || status === 405) {
        await this.#closeConnectionsOneByOne(user);
      }
      if (status !== 500) {
        return;
      }
      await sleep(this.#clock, CLOSE_RETRY_MS);
    }
  }

  /** For brokers that cannot close the connections of a user in one call. */
  async #closeConnectionsOneByOne(user: string): Promise<void> {
    const { text } = await this.#call('GET', '/connections?columns=name,user');
    const connections = JSON.parse(text) as { name?: string; user?: string }[];
    for (const connection of connections) {
      if (connection.user === user && connection.name !== undefined) {
        await this.#call(
          'DELETE',
          `/connections/${encodeURIComponent(connection.name)}`,
          undefined,
          404,
        );
      }
    }
  }

  async #call(
    method: string,
    path: string,
    body?: unknown,
    ...alsoFine: number[]
  ): Promise<HttpReply> {
    const url = new URL(this.#base + path);
    let reply: HttpReply;
    try {
      reply = await this.#transport.send({
        method,
        url,
        headers: { authorization: this.#authorization, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        idempotent: true,
      });
    } catch (error) {
      throw new UnavailableError('BROKER_UNREACHABLE', errorText(error), { cause: error });
    }
    if (reply.status < 300 || alsoFine.includes(reply.status)) {
      return reply;
    }
    throw this.#refusal(method, url, reply);
  }

  #refusal(method: string, url: URL, reply: HttpReply): Error {
    const reason = reasonOf(reply.text);
    const what = `RabbitMQ's management API at ${url.origin} answered ${method} ${url.pathname} with ${reply.status} (${reason})`;
    const problem = (expected: string): ConfigError =>
      new ConfigError(what, [{ key: SETTING, source: 'settings', expected }]);
    if (reply.status === 401) {
      return problem('must carry the name and password of a user with the tag "administrator"');
    }
    if (reply.status === 403) {
      return problem(
        'must name a user with the tag "administrator" and all permissions on the vhost',
      );
    }
    if (reply.status === 404 && reason.includes('vhost')) {
      return problem(
        `the vhost ${this.#vhostName} does not exist; create it with: rabbitmqctl add_vhost '${this.#vhostName}'`,
      );
    }
    if (reply.status === 400 && reason.includes('inequivalent')) {
      return problem(
        'the broker has it with other properties; delete it there (its messages are lost), or use another vhost',
      );
    }
    return new UnavailableError('BROKER_UNREACHABLE', `${what}. See the log of the broker.`, {
      details: { status: reply.status, method, path: url.pathname },
    });
  }
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.username === '') {
    throw new ConfigError(`${SETTING} cannot be used`, [
      {
        key: SETTING,
        source: 'settings',
        expected: 'must be a URL such as http://user:password@127.0.0.1:15672',
      },
    ]);
  }
  return url;
}

function namesIn(text: string): string[] {
  try {
    return (JSON.parse(text) as { name: string }[]).map(({ name }) => name);
  } catch (error) {
    throw new ProtocolError(
      'RESPONSE_INVALID',
      `${SETTING} answers with something that is not RabbitMQ's management API`,
      { cause: error },
    );
  }
}

function reasonOf(text: string): string {
  try {
    const { reason } = JSON.parse(text) as { reason?: unknown };
    return typeof reason === 'string' ? reason.slice(0, 300) : text.slice(0, 100);
  } catch {
    // An error page of a proxy.
    return text.slice(0, 100);
  }
}
