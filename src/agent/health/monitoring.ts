/**
 * What can be asked of an agent over HTTP, when `metrics_listen` is set: loaded only then.
 *
 *   /healthz   200 while the process answers
 *   /readyz    200 while it does what it is for, 503 with the reasons otherwise
 *   /metrics   Prometheus
 */
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { packageVersion } from '../../base/package-root.ts';
import type { TokenSource } from '../../transport/oauth/client-credentials.ts';
import type { AgentPhase } from '../agent-phase.ts';
import { agentMetrics } from '../metrics/agent-metrics.ts';
import type { AgentMetrics, AgentMetricsOptions } from '../metrics/agent-metrics.ts';
import type { TaskObserver } from '../task-observer.ts';
import { readAgent } from './agent-readings.ts';
import type { AgentReadings, ReadParts } from './agent-readings.ts';
import { HttpListener } from './http-listener.ts';
import type { HttpAnswer, ListenTarget } from './http-listener.ts';
import { judgeReadiness } from './readiness.ts';
import type { Readiness } from './readiness.ts';

/** Settings and sources of the monitoring. */
export interface MonitoringOptions extends Pick<
  AgentMetricsOptions,
  'places' | 'reserve' | 'journalBytesMax'
> {
  readonly target: ListenTarget;
  readonly tokens: TokenSource;
  readonly phase: () => AgentPhase;
  /** Undefined while the agent starts. */
  readonly parts: () => ReadParts | undefined;
  /** What a start waits for, in words. */
  readonly whyStarting: () => string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A running listener. */
export interface Monitoring {
  /** Has to be told of tasks. */
  readonly observer: TaskObserver;
  readonly listener: HttpListener;
  readonly close: () => Promise<void>;
}

/** Opens the listener. */
export async function openMonitoring(options: MonitoringOptions): Promise<Monitoring> {
  const { target, clock, logger, phase, parts, tokens } = options;
  const read = (): AgentReadings | undefined => {
    const running = parts();
    return running && readAgent(running, tokens, clock);
  };
  const metrics = agentMetrics({ ...options, version: packageVersion(), read });
  const listener = new HttpListener({
    target,
    clock,
    logger,
    routes: new Map<string, () => HttpAnswer | Promise<HttpAnswer>>([
      ['/healthz', () => json(200, { status: 'ok', pid: process.pid, phase: phase() })],
      ['/readyz', () => readinessAnswer(judgeReadiness(phase(), read(), options.whyStarting()))],
      ['/metrics', async () => await scrapeAnswer(metrics)],
    ]),
  });
  await listener.start();
  return {
    observer: metrics.observer,
    listener,
    close: async () => {
      await listener.close();
    },
  };
}

function readinessAnswer(readiness: Readiness): HttpAnswer {
  return json(readiness.ready ? 200 : 503, readiness);
}

async function scrapeAnswer({ contentType, text }: AgentMetrics): Promise<HttpAnswer> {
  return { status: 200, contentType, body: await text() };
}

function json(status: number, document: object): HttpAnswer {
  return {
    status,
    contentType: 'application/json; charset=utf-8',
    body: `${JSON.stringify(document)}\n`,
  };
}
