/** Telling an agent something through the hub: the routes under `/v1/endpoints/{id}`, and the message on the command queue. Ours. */

/** What an agent can be told. `cancel` stops it like `stop`, and does not wait for what runs. */
export const ENDPOINT_COMMANDS = ['stop', 'cancel', 'pause', 'drain', 'resume', 'reload'] as const;

/** Name of a command. */
export type EndpointCommandName = (typeof ENDPOINT_COMMANDS)[number];

/** A message that nobody has taken for so long is dropped by the broker. */
export const COMMAND_TTL_MS = 30_000;

/** Longest `by` and `reason`, in characters. */
export const COMMAND_TEXT_CHARS_MAX = 256;

/** Body of `POST /v1/endpoints/{id}/commands`. */
export interface EndpointCommand {
  readonly command: EndpointCommandName;
  /** The lease that it is for: whoever holds a later one does not obey. */
  readonly lease_epoch: number;
  readonly by?: string;
  readonly reason?: string;
}

/** The message on the command queue, as JSON. */
export interface EndpointCommandMessage extends EndpointCommand {
  readonly command_id: string;
}

/** What became of the last command that an agent was told; it stands in its heartbeat. */
export interface CommandOutcome {
  readonly command_id: string;
  readonly command: EndpointCommandName;
  /** ISO 8601, by the agent's clock. */
  readonly at: string;
  readonly ok: boolean;
  readonly error: string | null;
  /** What the control socket would have answered, of `pause`, `drain` and `resume`. */
  readonly result: unknown;
}

/** How a lease stands: `released` by its holder, `expired` without a word. */
export type LeaseStanding = 'none' | 'held' | 'released' | 'expired';

/** Answer to `GET /v1/endpoints/{id}/lease`; for the owner of the endpoint. */
export interface EndpointLease {
  readonly endpoint_id: string;
  readonly lease: LeaseStanding;
  readonly epoch: number;
  readonly holder: {
    readonly host: string;
    readonly pid: number;
    readonly since: string | null;
  } | null;
  readonly status: 'online' | 'offline';
  readonly expires_at: string | null;
  readonly last_heartbeat_at: string | null;
  /** Of its last heartbeat: counts of tasks, mode, last command. */
  readonly report: Readonly<Record<string, unknown>>;
}
