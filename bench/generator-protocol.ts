/** What the bench and its load generator say to each other, over the channel of a forked process. */
import type { TaskKind } from './task-bodies.ts';

/** Where tasks are sent. */
export interface Destination {
  /** Empty for the default exchange. */
  readonly exchange: string;
  readonly routingKey: string;
}

/** Tasks to send and to wait for. */
interface Load {
  readonly destination: Destination;
  readonly kind: TaskKind;
  /** Argument of the tasks that take one. */
  readonly argument?: string;
}

/** What the generator is asked for. */
export type GeneratorRequest =
  /** Everything at once; answered with the milliseconds from the first publish to the last result. */
  | (Load & { readonly op: 'burst'; readonly count: number })
  /** One after the other; answered with the milliseconds of each. */
  | (Load & { readonly op: 'latency'; readonly samples: number })
  /** Published and confirmed; no result is waited for. */
  | (Load & { readonly op: 'fill'; readonly count: number });

/** The answer to a request. */
export interface GeneratorReply {
  readonly times: readonly number[];
  /** The first result, as text, when it says that its task failed. */
  readonly failure?: string;
}

/** How the generator is told where to work: its only argument, as JSON. */
export interface GeneratorSetup {
  /** Queues that results come from. */
  readonly resultQueues: readonly string[];
}

/** Variable with the address of the broker: arguments can be read by everybody. */
export const BROKER_URL_VARIABLE = 'BENCH_AMQP_URL';
