/**
 * What the agent needs to be told, as a slice of the configuration: the agent itself reads no file and no environment.
 * Sizes are in bytes or characters, times in milliseconds.
 */
import type { TokenSource } from '../transport/oauth/client-credentials.ts';

/** Settings of one agent. */
export interface AgentOptions {
  /** Name of the endpoint, as it stands in its directory. */
  readonly name: string;
  /** Directory of the endpoint: journal, logs, tasks. */
  readonly directory: string;
  /** Path of the control socket. */
  readonly controlSocketPath: string;
  /** Endpoint id of an earlier registration, if there was one. */
  readonly endpointId?: string;
  /** Lease epoch that this directory held last. */
  readonly previousEpoch?: number;
  /** Fence whoever holds the endpoint. */
  readonly takeover: boolean;
  /** Keeps what a registration returned, for the next start. */
  readonly saveRegistration: (registration: { endpointId: string; epoch: number }) => Promise<void>;
  readonly hubUrl: string;
  readonly tokens: TokenSource;
  /** Authorities that are trusted beside the system's (PEM), for hub and broker. */
  readonly ca?: string;
  readonly displayName?: string;
  /** Registered with the endpoint: versions and host, for people who look at it. */
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly javascriptThreads: number;
  readonly javascriptHeapMb: number;
  readonly pythonInterpreters: number;
  readonly python: string;
  /** Tasks that are held beyond those that run. */
  readonly reserve: number;
  readonly heartbeatPeriodMs: number;
  readonly resultCharsMax: number;
  readonly outputBytesMax: number;
  /** Wall-clock limit of a task; 0 means none. */
  readonly taskTimeoutMs: number;
  /** How often a task is started again after its worker was lost. */
  readonly maxRetries: number;
  readonly killGraceMs: number;
  readonly drainGraceMs: number;
  readonly workerStartTimeoutMs: number;
  readonly workingDir: string;
  /** Whether each task gets a directory of its own in it. */
  readonly runInSandbox: boolean;
  /** Ids of the only functions that may run; undefined means all. */
  readonly allowedFunctions?: readonly string[];
  /** Identifiers of the only serializers that are accepted; undefined means all. */
  readonly allowedSerializers?: readonly string[];
  readonly journalBytesMax: number;
  /** Extra environment of the workers. */
  readonly environment: Readonly<Record<string, string>>;
  /** Replaces the port of every broker URL, for sites that let only some ports out. */
  readonly amqpPort?: number;
  /** PATH, HOME and the like that the workers inherit; never a secret. */
  readonly baseEnvironment: Readonly<Record<string, string>>;
}
