/**
 * Registers the endpoint with the hub and holds what came back: queue infos, broker credentials, lease epoch.
 *
 * Sessions dial with what is held and ask for a renewal only when the broker refused it; two sessions that are refused
 * at the same time share one renewal. Which failures are tried again, for ever, is told by the table in session-outcomes.ts.
 */
import { backoffDelayMs } from '../base/backoff.ts';
import type { BackoffOptions } from '../base/backoff.ts';
import { sleep } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { withDeadline } from '../base/deadline.ts';
import { ConflictError, UnavailableError, errorText } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { HubClient } from '../client/hub-client.ts';
import type { EndpointRegistered, EndpointRegistration } from '../protocol/rest.ts';
import { thisProcess } from './agent-lock.ts';
import type { AgentOptions } from './agent-options.ts';
import { registrationOutcome } from './session-outcomes.ts';

/** The hub is asked a few times a second by a thousand agents at most; each attempt has retries of its own. */
const RETRY: BackoffOptions = { baseMs: 250, maxMs: 3_000 };

/** How long a start that has failed waits for the hub's answer. */
const END_LIMIT_MS = 2_000;

/** What the agent holds after registering. */
export interface Registration {
  readonly endpointId: string;
  readonly epoch: number;
  readonly response: EndpointRegistered;
}

type RegistrationOptions = Pick<
  AgentOptions,
  | 'name'
  | 'displayName'
  | 'metadata'
  | 'allowedFunctions'
  | 'allowedSerializers'
  | 'endpointId'
  | 'previousEpoch'
  | 'takeover'
  | 'saveRegistration'
  | 'amqpPort'
>;

/** What of the registration can change while the agent runs. */
export type DescribedEndpoint = Pick<
  AgentOptions,
  'displayName' | 'allowedFunctions' | 'allowedSerializers'
>;

/** Keeps the endpoint registered. */
export class Registrar {
  readonly #options: RegistrationOptions;
  #described: DescribedEndpoint;
  readonly #hub: HubClient;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #stopped = new AbortController();
  #current: Registration | undefined;
  #inFlight: Promise<Registration> | undefined;
  #attemptCount = 0;
  /** The last failed attempt in words, for `status` and for whoever waits for the start. */
  #lastFailure: string | undefined;

  constructor(options: RegistrationOptions, hub: HubClient, clock: Clock, logger: Logger) {
    this.#options = options;
    this.#described = options;
    this.#hub = hub;
    this.#clock = clock;
    this.#logger = logger;
  }

  /** What is held, if anything. */
  get current(): Registration | undefined {
    return this.#current;
  }

  /** Attempts to register so far, for the watchdog. */
  get attemptCount(): number {
    return this.#attemptCount;
  }

  /** Whether somebody waits for a registration. */
  get isRegistering(): boolean {
    return this.#inFlight !== undefined;
  }

  /** Why the last attempt failed; undefined once one succeeded. */
  get lastFailure(): string | undefined {
    return this.#lastFailure;
  }

  /**
   * The registration, made if there is none or if the one with `refusedEpoch` is no longer accepted by the broker.
   *
   * @throws AuthError, ConflictError or ProtocolError when trying again is not for this agent; otherwise keeps trying until `stop`.
   */
  async obtain(refusedEpoch?: number): Promise<Registration> {
    if (this.#current !== undefined && this.#current.epoch !== refusedEpoch) {
      return this.#current;
    }
    this.#inFlight ??= this.#register().finally(() => {
      this.#inFlight = undefined;
    });
    return await this.#inFlight;
  }

  /** Describes the endpoint to the hub in another way, now if it is registered and with the next registration otherwise. */
  async update(described: DescribedEndpoint): Promise<void> {
    this.#described = described;
    const underWay = this.#inFlight;
    if (underWay !== undefined) {
      // It may have been made out of the old description already.
      await underWay.catch((error: unknown) => {
        this.#logger.debug({ reason: errorText(error) }, 'the registration before has failed');
      });
    }
    if (this.#current !== undefined) {
      await this.obtain(this.#current.epoch);
    }
  }

  /** Asks for the registration that will be needed. How that ends is told to whoever obtains it. */
  begin(): void {
    this.obtain().catch((error: unknown) => {
      this.#logger.debug({ reason: errorText(error) }, 'the first registration has failed');
    });
  }

  /** Ends as `stop` does, but waits a moment for a grant that is under way: it has to be known to be given back. */
  async end(): Promise<void> {
    const underWay = this.#inFlight;
    if (underWay !== undefined && !this.isStopped) {
      const isOverdue = (): Error => new UnavailableError('TIMED_OUT', 'the hub is slow');
      await withDeadline(this.#clock, END_LIMIT_MS, underWay, isOverdue).catch(() => undefined);
    }
    this.stop();
  }

  /** Whether `stop` was called. */
  get isStopped(): boolean {
    return this.#stopped.signal.aborted;
  }

  /** Ends waiting for the hub. */
  stop(): void {
    this.#stopped.abort(new ConflictError('NOT_RUNNING', 'the agent is stopping'));
  }

  async #register(): Promise<Registration> {
    for (let attempt = 0; ; attempt += 1) {
      this.#stopped.signal.throwIfAborted();
      this.#attemptCount += 1;
      try {
        return await this.#attempt();
      } catch (error) {
        this.#stopped.signal.throwIfAborted();
        const { action, status } = registrationOutcome(error, this.#current !== undefined);
        if (action !== 'wait') {
          this.#lastFailure = errorText(error);
          throw error;
        }
        this.#lastFailure = `${errorText(error)} (${status})`;
        const delayMs = backoffDelayMs(attempt, RETRY);
        const level = attempt === 0 ? 'warn' : 'debug';
        this.#logger[level]({ err: error, attempt, delayMs }, 'registration failed, trying again');
        await sleep(this.#clock, delayMs, this.#stopped.signal);
      }
    }
  }

  async #attempt(): Promise<Registration> {
    const endpointId = this.#current?.endpointId ?? this.#options.endpointId;
    const body = this.#body();
    const response =
      endpointId === undefined
        ? await this.#hub.registerEndpoint(body, this.#stopped.signal)
        : await this.#hub.updateEndpoint(endpointId, body, this.#stopped.signal);
    const registration: Registration = {
      endpointId: response.endpoint_id,
      epoch: response.lease?.epoch ?? 0,
      response: this.#withPort(response),
    };
    this.#current = registration;
    this.#lastFailure = undefined;
    const { endpointId: id, epoch } = registration;
    try {
      await this.#options.saveRegistration({ endpointId: id, epoch });
    } catch (error) {
      // The grant stands: asking again would only fence ourselves. Without the file the next start may have to wait for the lease.
      this.#logger.warn({ reason: errorText(error) }, 'the registration could not be saved');
    }
    this.#logger.info(
      { endpointId: registration.endpointId, epoch: registration.epoch },
      'registered',
    );
    return registration;
  }

  #body(): EndpointRegistration {
    const { name, metadata, takeover } = this.#options;
    const { displayName, allowedFunctions, allowedSerializers } = this.#described;
    const epoch = this.#current?.epoch ?? this.#options.previousEpoch;
    return {
      endpoint_name: name,
      ...(displayName !== undefined && { display_name: displayName }),
      metadata: {
        ...metadata,
        ...(allowedSerializers !== undefined && { allowed_serializers: allowedSerializers }),
      },
      ...(allowedFunctions !== undefined && { allowed_functions: allowedFunctions }),
      lease: {
        holder: thisProcess(),
        ...(epoch !== undefined && { previous_epoch: epoch }),
        // Only the first grant may fence somebody: a renewal that does would fight with its own fencer.
        ...(takeover && this.#current === undefined && { takeover: true }),
      },
    };
  }

  #withPort(response: EndpointRegistered): EndpointRegistered {
    const { amqpPort } = this.#options;
    if (amqpPort === undefined) {
      return response;
    }
    const move = <T extends { readonly connection_url: string }>(info: T): T => {
      const url = new URL(info.connection_url);
      url.port = String(amqpPort);
      return { ...info, connection_url: url.href };
    };
    return {
      ...response,
      command_queue_info: move(response.command_queue_info),
      task_queue_info: move(response.task_queue_info),
      result_queue_info: move(response.result_queue_info),
      heartbeat_queue_info: move(response.heartbeat_queue_info),
    };
  }
}
