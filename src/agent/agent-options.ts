/**
 * What the agent needs to be told, as a slice of the configuration: the agent itself reads no file and no environment.
 * Sizes are in bytes or characters, times in milliseconds.
 */
import type { LogControl } from '../base/logger.ts';
import type { EnvironmentSettings } from '../protocol/host-frames.ts';
import type { TokenSource } from '../transport/oauth/client-credentials.ts';
import type { ModeRecord } from './agent-mode.ts';
import type { ListenTarget } from './health/http-listener.ts';
import type { LiveSettings, SettingsReading } from './live-settings.ts';

/** Settings of one agent: those that may change while it runs, and the others. */
export interface AgentOptions extends LiveSettings {
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
  /** Whether they are those of a login, which ends when nobody uses it, and which its person may end. */
  readonly watchesSignIn?: boolean;
  /** Authorities that are trusted beside the system's (PEM), for hub and broker. */
  readonly ca?: string;
  /** Registered with the endpoint: versions and host, for people who look at it. */
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly javascriptThreads: number;
  readonly javascriptHeapMb: number;
  readonly pythonInterpreters: number;
  readonly python: string;
  /** Who starts the worker host: this agent, or a unit of the service manager. */
  readonly workerHost?: 'child' | 'unit';
  /** Directory in which the agent and a worker host that is a unit of its own meet. */
  readonly workerSocketDirectory?: string;
  /** Niceness of the workers, 0 to 19; not set: that of the agent. */
  readonly workerNice?: number;
  /** Address space of one Python interpreter; 0 or not set: no limit. */
  readonly workerMemoryMb?: number;
  /** What tells that this host has a batch scheduler, for which there may be no workers. */
  readonly batchScheduler?: string;
  /** What the operator should know about the settings, in whole sentences. */
  readonly notices?: readonly string[];
  /** Tasks that are held beyond those that run. */
  readonly reserve: number;
  readonly resultCharsMax: number;
  readonly outputBytesMax: number;
  readonly killGraceMs: number;
  readonly workerStartTimeoutMs: number;
  /** Execution environments that functions may name; undefined: none. */
  readonly environments?: EnvironmentSettings;
  readonly workingDir: string;
  /** Whether each task gets a directory of its own in it. */
  readonly runInSandbox: boolean;
  /** Mode that was asked for in an earlier run. */
  readonly mode: ModeRecord | undefined;
  /** Keeps the mode for the next start. @throws UnavailableError when it cannot be kept. */
  readonly saveMode: (record: ModeRecord) => Promise<void>;
  /** Reads the settings again. @throws ConfigError with every problem there is. */
  readonly readSettings: () => Promise<SettingsReading>;
  readonly journalBytesMax: number;
  /** Where health and metrics are served; not set: nowhere. */
  readonly metricsListen?: ListenTarget;
  /** Changes the log while the agent runs. */
  readonly logControl?: LogControl;
  /** Extra environment of the workers. */
  readonly environment: Readonly<Record<string, string>>;
  /** Replaces the port of every broker URL, for sites that let only some ports out. */
  readonly amqpPort?: number;
  /** PATH, HOME and the like that the workers inherit; never a secret. */
  readonly baseEnvironment: Readonly<Record<string, string>>;
}
