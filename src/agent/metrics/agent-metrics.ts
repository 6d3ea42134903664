/**
 * The metrics of an agent in Prometheus' words. Loaded only when there is a listener; all but those of task-metrics.ts are read
 * when they are asked for.
 */
import { Counter, Gauge, Registry } from 'prom-client';

import type { Clock } from '../../base/clock.ts';
import type { EnvironmentReport } from '../../protocol/host-frames.ts';
import type { AgentReadings } from '../health/agent-readings.ts';
import type { TaskObserver } from '../task-observer.ts';
import { ProcessTreeUsage } from './process-tree-usage.ts';
import { taskMetrics } from './task-metrics.ts';

/** What is known before the agent runs. */
export interface AgentMetricsOptions {
  readonly version: string;
  /** Places that the settings ask for. */
  readonly places: { readonly javascript: number; readonly python: number };
  readonly reserve: number;
  readonly journalBytesMax: number;
  readonly clock: Clock;
  /** Undefined while the agent starts. */
  readonly read: () => AgentReadings | undefined;
}

/** The text that a scrape gets, and who is told of tasks. */
export interface AgentMetrics {
  readonly observer: TaskObserver;
  readonly contentType: string;
  readonly text: () => Promise<string>;
}

type Labels = Readonly<Record<string, string>>;

/** A value with its labels. */
type Sample = readonly [value: number, labels?: Labels];

/** Opens the metrics of an agent. */
export function agentMetrics(options: AgentMetricsOptions): AgentMetrics {
  const registry = new Registry();
  const observer = taskMetrics(registry, options.clock);
  const host = new ProcessTreeUsage();
  const metrics = new ReadMetrics(registry);
  for (const define of [defineTasks, defineBroker, defineJournal, defineWorkers]) {
    define(metrics, options);
  }
  defineProcess(metrics, options);
  let inFlight: Promise<string> | undefined;
  const scrape = async (): Promise<string> => {
    const readings = options.read();
    metrics.update(readings);
    const usage = await host.read(readings?.hostPid);
    metrics.set('outpost_worker_host_cpu_seconds_total', [[usage.cpuSeconds]]);
    metrics.set('outpost_worker_host_resident_memory_bytes', [[usage.residentBytes]]);
    return await registry.metrics();
  };
  return {
    observer,
    contentType: registry.contentType,
    // Several who ask at the same time get the same answer.
    text: async () => {
      inFlight ??= scrape().finally(() => {
        inFlight = undefined;
      });
      return await inFlight;
    },
  };
}

/** Metrics whose values stand somewhere else and are copied for a scrape. */
class ReadMetrics {
  readonly #registry: Registry;
  readonly #metrics = new Map<string, (samples: readonly Sample[]) => void>();
  readonly #readers: ((readings: AgentReadings) => void)[] = [];
  readonly #always: (() => void)[] = [];

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** A value that goes up and down. */
  gauge(name: string, help: string, read?: (readings: AgentReadings) => readonly Sample[]): void {
    const metric = new Gauge({ name, help, labelNames: LABELS, registers: [this.#registry] });
    this.#add(name, read, (samples) => {
      metric.reset();
      for (const [value, labels = {}] of samples) {
        metric.set(labels, value);
      }
    });
  }

  /** A value that only goes up, counted elsewhere. */
  counter(name: string, help: string, read?: (readings: AgentReadings) => readonly Sample[]): void {
    const metric = new Counter({ name, help, labelNames: LABELS, registers: [this.#registry] });
    this.#add(name, read, (samples) => {
      metric.reset();
      for (const [value, labels = {}] of samples) {
        metric.inc(labels, value);
      }
    });
  }

  /** A value that is there also while the agent starts. */
  always(name: string, read: () => readonly Sample[]): void {
    this.#always.push(() => {
      this.set(name, read());
    });
  }

  set(name: string, samples: readonly Sample[]): void {
    this.#metrics.get(name)?.(samples);
  }

  update(readings: AgentReadings | undefined): void {
    for (const read of this.#always) {
      read();
    }
    if (readings !== undefined) {
      for (const read of this.#readers) {
        read(readings);
      }
    }
  }

  #add(
    name: string,
    read: ((readings: AgentReadings) => readonly Sample[]) | undefined,
    set: (samples: readonly Sample[]) => void,
  ): void {
    this.#metrics.set(name, set);
    if (read !== undefined) {
      this.#readers.push((readings) => {
        set(read(readings));
      });
    }
  }
}

/** Every label that a metric of this file may have. */
const LABELS = ['state', 'language', 'session', 'loop', 'type', 'version', 'node_version'];

function byLabel(label: string, values: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(values).map(([name, value]) => [value, { [label]: name }]);
}

function flag(value: boolean): number {
  return value ? 1 : 0;
}

function defineTasks(metrics: ReadMetrics): void {
  metrics.gauge('outpost_tasks_open', 'Tasks that the agent holds, by state.', (now) =>
    byLabel('state', {
      pending: now.tasks.pending,
      waiting: now.tasks.waiting,
      running: now.tasks.running,
    }),
  );
  metrics.counter(
    'outpost_task_duplicates_total',
    'Deliveries of tasks that were known already.',
    (now) => [[now.tasks.duplicates]],
  );
  metrics.gauge(
    'outpost_results_unconfirmed',
    'Results that were published and that the broker has not confirmed.',
    (now) => [[now.unconfirmed]],
  );
  metrics.gauge(
    'outpost_results_unpublished',
    'Results that wait for a connection or for room.',
    (now) => [[now.unpublished]],
  );
}

function defineBroker(metrics: ReadMetrics, { clock }: AgentMetricsOptions): void {
  metrics.gauge('outpost_online', '1 while tasks are taken and results published.', (now) => [
    [flag(now.offline === undefined)],
  ]);
  metrics.gauge('outpost_broker_session_up', '1 while the session is connected.', (now) => [
    [flag(now.sessions.tasks.phase === 'online'), { session: 'tasks' }],
    [flag(now.sessions.results.phase === 'online'), { session: 'results' }],
  ]);
  metrics.counter(
    'outpost_broker_reconnects_total',
    'Connections to the broker after the first one, by session.',
    (now) => byLabel('session', now.reconnects),
  );
  metrics.gauge(
    'outpost_last_heartbeat_timestamp_seconds',
    'When the broker last confirmed a heartbeat, in seconds since the epoch.',
    (now) =>
      now.heartbeatAgeMs === undefined ? [] : [[(clock.now() - now.heartbeatAgeMs) / 1000]],
  );
  metrics.gauge(
    'outpost_auth_expiry_timestamp_seconds',
    'When the access token for the hub ends, in seconds since the epoch. It is renewed when it is needed.',
    (now) => (now.tokenEndEpochMs === undefined ? [] : [[now.tokenEndEpochMs / 1000]]),
  );
}

function defineJournal(metrics: ReadMetrics, { journalBytesMax }: AgentMetricsOptions): void {
  metrics.gauge('outpost_journal_bytes', 'Size of the journal.', (now) => [[now.journal.bytes]]);
  metrics.gauge('outpost_journal_bytes_max', 'Size from which no more tasks are taken.');
  metrics.always('outpost_journal_bytes_max', () => [[journalBytesMax]]);
  metrics.gauge('outpost_journal_tasks', 'Tasks in the journal that are not settled.', (now) => [
    [now.journal.liveCount],
  ]);
  metrics.gauge('outpost_journal_segments', 'Segment files of the journal.', (now) => [
    [now.journal.segments],
  ]);
  metrics.gauge('outpost_journal_full', '1 while journal or disk take no more tasks.', (now) => [
    [flag(now.journal.full)],
  ]);
}

function defineWorkers(metrics: ReadMetrics, { places, reserve }: AgentMetricsOptions): void {
  metrics.gauge('outpost_worker_places', 'Places for running tasks that are there now.', (now) =>
    byLabel('language', now.tasks.slots),
  );
  metrics.gauge('outpost_worker_places_configured', 'Places that the settings ask for.');
  metrics.always('outpost_worker_places_configured', () => byLabel('language', places));
  metrics.gauge('outpost_reserve_places', 'Tasks that may be held beside those that run.');
  metrics.always('outpost_reserve_places', () => [[reserve]]);
  metrics.counter(
    'outpost_worker_restarts_total',
    'Interpreters and threads that were started in the place of another.',
    (now) => byLabel('language', now.workerRestarts),
  );
  metrics.counter(
    'outpost_worker_host_restarts_total',
    'Worker hosts that were started in the place of another.',
    (now) => [[now.hostRestarts]],
  );
  metrics.gauge(
    'outpost_environment_interpreters',
    'Interpreters in execution environments: that run a task, that are kept for the next one, that are being started.',
    (now) => environmentSamples(now.environments),
  );
  metrics.gauge(
    'outpost_environments_failing',
    'Execution environments in which no interpreter starts, so that their tasks fail.',
    (now) => [[now.environments.filter(({ reason }) => reason !== undefined).length]],
  );
  metrics.gauge('outpost_worker_host_up', '1 while the worker host can take tasks.', (now) => [
    [flag(now.isHostConnected)],
  ]);
  metrics.counter(
    'outpost_worker_host_cpu_seconds_total',
    'Processor time of worker hosts with all that they have started.',
  );
  metrics.gauge(
    'outpost_worker_host_resident_memory_bytes',
    'Resident memory of the worker host with all that it has started; shared pages count once for each process.',
  );
  metrics.counter(
    'outpost_watchdog_stalls_total',
    'How often a loop of the agent had work and made no progress.',
    (now) => now.stalls.map(({ loop, count }) => [count, { loop }]),
  );
}

/** By type: a location is whatever people register, and each value of a label stays in Prometheus for good. */
function environmentSamples(environments: readonly EnvironmentReport[]): Sample[] {
  const states = ['running', 'idle', 'starting'] as const;
  return [...new Set(environments.map(({ type }) => type))].flatMap((type) =>
    states.map((state): Sample => {
      const ofType = environments.filter((one) => one.type === type);
      return [ofType.reduce((sum, one) => sum + one[state], 0), { type, state }];
    }),
  );
}

function defineProcess(metrics: ReadMetrics, { version, clock }: AgentMetricsOptions): void {
  const startedAtS = clock.now() / 1000 - process.uptime();
  metrics.gauge('outpost_build_info', 'Always 1; the labels say what runs.');
  metrics.always('outpost_build_info', () => [
    [1, { version, node_version: process.versions.node }],
  ]);
  metrics.counter('process_cpu_seconds_total', 'Processor time of the agent itself.');
  metrics.always('process_cpu_seconds_total', () => {
    const { userCPUTime, systemCPUTime } = process.resourceUsage();
    return [[(userCPUTime + systemCPUTime) / 1e6]];
  });
  metrics.gauge('process_resident_memory_bytes', 'Resident memory of the agent itself.');
  metrics.always('process_resident_memory_bytes', () => [[process.memoryUsage.rss()]]);
  metrics.gauge('process_start_time_seconds', 'When the agent was started.');
  metrics.always('process_start_time_seconds', () => [[startedAtS]]);
}
