/** What the bench found, as it stands in the JSON. A section that was not run is absent. */

/** Tasks straight to one taker's queue. */
export interface Throughput {
  /** 10,000 (or --tasks) at once; the median of the runs. */
  readonly tasksPerSecond: number;
  readonly idleP50Ms: number;
  readonly idleP99Ms: number;
  /** Against the echo right before and right after; the median of the runs. */
  readonly ratioToEcho: number;
  /** Idle latency p50 as a multiple of the echo's. */
  readonly latencyToEcho: number;
  /** Every run, in the order in which they were made. */
  readonly runs: readonly number[];
  /** CPU time of a burst, divided by its tasks. */
  readonly cpuMicrosPerTask?: Readonly<Record<string, number>>;
}

/** A burst of tasks whose argument and result have 1 MiB. */
export interface PayloadThroughput {
  readonly tasksPerSecond: number;
  readonly ratioToEcho: number;
}

/** The whole way: client, hub, agent, hub, client. */
export interface HubThroughput {
  readonly tasksPerSecond: number;
  readonly idleP50Ms: number;
  readonly idleP99Ms: number;
}

/** One idle process. */
export interface IdleProcess {
  readonly name: string;
  readonly rssMb: number;
  readonly cpuSecondsPerMinute: number;
}

/** One engine of globus-compute-endpoint. */
export interface GlobusEngine {
  readonly tasksPerSecond: number;
  readonly ratioToEcho: number;
  readonly idleP50Ms: number;
  readonly idleP99Ms: number;
  readonly payload1MiBTasksPerSecond: number;
  readonly startToFirstResultMs: number;
  readonly idleRssMb: number;
  readonly idleProcesses: number;
}

/** Where the time of one process went while it was profiled. */
export interface ProfileSummary {
  readonly tasks: number;
  readonly wallMicrosPerTask: number;
  readonly microsPerTask: Readonly<Record<string, number>>;
  readonly profile: string;
  readonly picture: string;
}

/** On what, when, and how much was measured. */
export interface Conditions {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly platform: string;
  readonly node: string;
  readonly rabbitmq: string;
  readonly postgresql: string;
  readonly date: string;
  /** Load average over one minute before the start, and at the end. */
  readonly load: { readonly before: number; readonly after: number };
  readonly tasks: number;
  readonly runs: number;
  readonly seconds: number;
}

/** Everything. */
export interface Report {
  readonly echo?: Throughput;
  readonly javascript?: Throughput;
  readonly python?: Throughput;
  readonly payload1MiB?: {
    readonly echo: number;
    readonly javascript: PayloadThroughput;
    readonly python: PayloadThroughput;
  };
  readonly hub?: {
    readonly tasks: number;
    readonly typescript: HubThroughput;
    /** Or why the unmodified SDK could not be run. */
    readonly python:
      (HubThroughput & { readonly sdkVersion: string }) | { readonly skipped: string };
  };
  /** Queries for functions over HTTP, one at a time. */
  readonly search?: { readonly functions: number; readonly p50Ms: number; readonly p99Ms: number };
  readonly start?: { readonly readyMs: number; readonly runs: readonly number[] };
  readonly reconnect?: { readonly consumingMs: number; readonly runs: readonly number[] };
  readonly idle?: {
    readonly agentRssMb: number;
    readonly hostRssMb: number;
    /** Of the control process. */
    readonly cpuSecondsPerMinute: number;
    readonly minutes: number;
    readonly processes: readonly IdleProcess[];
  };
  readonly queued?: {
    readonly rssMbAt1: number;
    readonly rssMbAt100k: number;
    readonly hostRssMbAt1: number;
    readonly hostRssMbAt100k: number;
  };
  readonly journal?: {
    readonly tasksPerSecond: number;
    readonly nullTasksPerSecond: number;
    /** Share of the null journal's throughput that the real one costs. */
    readonly costShare: number;
  };
  readonly profile?: { readonly agent: ProfileSummary; readonly host: ProfileSummary };
  readonly globus?: Readonly<Record<string, GlobusEngine | string>>;
  readonly conditions: Conditions;
}
