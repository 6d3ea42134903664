/**
 * The agent alone: tasks go straight to its queue, results are taken from the queue that the hub reads, and the hub stands still.
 *
 * Every burst of an agent has a burst of the echo right before and right after it, and its ratio is to the mean of those two: the
 * machine may become slower or faster meanwhile, and ratios stay true. The sections that need it share one set of agents.
 */
import { NULL_JOURNAL_VARIABLE } from '../agent-variables.ts';
import type { Destination } from '../generator-protocol.ts';
import { Generator } from '../generator.ts';
import { cpuSeconds } from '../process-usage.ts';
import type { PayloadThroughput, Report, Throughput } from '../report.ts';
import type { BenchAgent } from '../site.ts';
import { mean, median, round } from '../statistics.ts';
import type { TaskKind } from '../task-bodies.ts';
import { JAVASCRIPT_ONLY, PYTHON_ONLY, RESULTS_QUEUE } from './context.ts';
import type { BenchContext } from './context.ts';
import { startEcho } from './echo.ts';

/** An agent runs for months: by then V8 has compiled what is hot. The echo gets the same. */
const WARM_UP_COUNT = 5_000;

/** Something that takes tasks and answers them. */
export interface Taker {
  readonly name: string;
  readonly destination: Destination;
  readonly noop: TaskKind;
  /** Processes whose CPU time is told. */
  readonly processes: Readonly<Record<string, number>>;
}

/** What is measured with one burst after the other. */
type Direct = Pick<Report, 'echo' | 'javascript' | 'python' | 'payload1MiB' | 'journal'>;

/** Runs the sections that measure the agent alone, those that were asked for. */
export async function measureDirect(context: BenchContext): Promise<Direct> {
  const { site, options } = context;
  const wants = (name: keyof Direct): boolean => options.sections.has(name);
  const agents: Record<string, BenchAgent> = {};
  const needsJavascript = wants('javascript') || wants('payload1MiB') || wants('journal');
  if (needsJavascript) {
    agents['javascript'] = await site.startAgent('javascript', { settings: JAVASCRIPT_ONLY });
  }
  if (wants('python') || wants('payload1MiB')) {
    agents['python'] = await site.startAgent('python', { settings: PYTHON_ONLY });
  }
  if (wants('journal')) {
    agents['null-journal'] = await site.startAgent('null-journal', {
      settings: JAVASCRIPT_ONLY,
      entryVariables: { [NULL_JOURNAL_VARIABLE]: '1' },
    });
  }
  await site.useHub(false);
  const echo = await startEcho(site.amqpUrl);
  const generator = await Generator.start(site.amqpUrl, [RESULTS_QUEUE, echo.resultQueue]);
  try {
    const echoTaker: Taker = {
      name: 'echo',
      destination: echo.destination,
      noop: 'javascript-noop',
      processes: { echo: echo.pid },
    };
    const takers = [agents['javascript'], agents['python']].flatMap((agent) =>
      agent === undefined ? [] : [agentTaker(agent)],
    );
    const found: Mutable<Direct> = {};
    if (wants('echo') || wants('javascript') || wants('python')) {
      const measured = takers.filter(({ name }) => wants(name as keyof Direct));
      Object.assign(found, await measureThroughput(context, generator, echoTaker, measured));
    }
    const [javascript, python] = takers;
    if (wants('payload1MiB') && javascript !== undefined && python !== undefined) {
      found.payload1MiB = await measurePayload(context, generator, echoTaker, javascript, python);
    }
    const nullAgent = agents['null-journal'];
    if (javascript !== undefined && nullAgent !== undefined) {
      found.journal = await measureJournal(context, generator, javascript, agentTaker(nullAgent));
    }
    return found;
  } finally {
    await generator.stop();
    await echo.stop();
    for (const agent of Object.values(agents)) {
      await agent.stop();
    }
  }
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** An agent as a taker. */
export function agentTaker(agent: BenchAgent): Taker {
  return {
    name: agent.name,
    destination: agent.destination,
    noop: agent.name === 'python' ? 'python-noop' : 'javascript-noop',
    processes: { agent: agent.pid, host: agent.hostPid },
  };
}

/** Echo and takers in turn, so that each taker's burst stands between two of the echo's. */
export async function measureThroughput(
  { options, say }: BenchContext,
  generator: Generator,
  echo: Taker,
  takers: readonly Taker[],
): Promise<Record<string, Throughput>> {
  const { taskCount, runCount, latencySamples } = options;
  const everybody = [echo, ...takers];
  for (const { destination, noop } of everybody) {
    await generator.burst(destination, noop, Math.min(WARM_UP_COUNT, taskCount));
  }
  const rates = new Map<string, number[]>(everybody.map(({ name }) => [name, []]));
  const ratios = new Map<string, number[]>(everybody.map(({ name }) => [name, []]));
  const cpu = new Map<string, Record<string, number>>();
  const burst = async (taker: Taker): Promise<number> => {
    const before = cpuOf(taker);
    const rate = await generator.burst(taker.destination, taker.noop, taskCount);
    const after = cpuOf(taker);
    cpu.set(
      taker.name,
      Object.fromEntries(
        Object.entries(after).map(([name, seconds]) => [
          name,
          round(((seconds - (before[name] ?? 0)) / taskCount) * 1e6, 1),
        ]),
      ),
    );
    rates.get(taker.name)?.push(rate);
    say(`${taker.name}: ${rate.toFixed(0)} tasks/s`);
    return rate;
  };
  for (let run = 0; run < runCount; run += 1) {
    let echoBefore = await burst(echo);
    for (const taker of takers) {
      const rate = await burst(taker);
      const echoAfter = await burst(echo);
      ratios.get(taker.name)?.push(rate / mean([echoBefore, echoAfter]));
      echoBefore = echoAfter;
    }
  }
  const latencies = new Map<string, { p50Ms: number; p99Ms: number }>();
  for (const { name, destination, noop } of everybody) {
    latencies.set(name, await generator.latency(destination, noop, latencySamples));
  }
  const echoP50Ms = latencies.get(echo.name)?.p50Ms ?? 0;
  return Object.fromEntries(
    everybody.map(({ name }) => {
      const { p50Ms, p99Ms } = latencies.get(name) ?? { p50Ms: 0, p99Ms: 0 };
      const own = rates.get(name) ?? [];
      const throughput: Throughput = {
        tasksPerSecond: round(median(own), 0),
        idleP50Ms: round(p50Ms),
        idleP99Ms: round(p99Ms),
        ratioToEcho: name === echo.name ? 1 : round(median(ratios.get(name) ?? []), 3),
        latencyToEcho: round(p50Ms / echoP50Ms),
        runs: own.map((rate) => round(rate, 0)),
        cpuMicrosPerTask: cpu.get(name) ?? {},
      };
      return [name, throughput];
    }),
  );
}

function cpuOf({ processes }: Taker): Record<string, number> {
  return Object.fromEntries(
    Object.entries(processes).map(([name, pid]) => [name, cpuSeconds(pid)]),
  );
}

async function measurePayload(
  { options, say }: BenchContext,
  generator: Generator,
  echo: Taker,
  javascript: Taker,
  python: Taker,
): Promise<NonNullable<Report['payload1MiB']>> {
  const burst = async (taker: Taker, kind: TaskKind): Promise<number> => {
    const rate = await generator.burst(taker.destination, kind, options.payloadCount);
    say(`${taker.name}, 1 MiB: ${rate.toFixed(1)} tasks/s`);
    return rate;
  };
  const echoes: number[] = [];
  const found: Record<'javascript' | 'python', { rate: number; ratio: number }[]> = {
    javascript: [],
    python: [],
  };
  for (let run = 0; run < options.runCount; run += 1) {
    echoes.push(await burst(echo, 'javascript-1MiB'));
    for (const [name, taker, kind] of [
      ['javascript', javascript, 'javascript-1MiB'],
      ['python', python, 'python-1MiB'],
    ] as const) {
      const rate = await burst(taker, kind);
      echoes.push(await burst(echo, kind));
      found[name].push({ rate, ratio: rate / mean(echoes.slice(-2)) });
    }
  }
  const result = (name: 'javascript' | 'python'): PayloadThroughput => ({
    tasksPerSecond: round(median(found[name].map(({ rate }) => rate)), 1),
    ratioToEcho: round(median(found[name].map(({ ratio }) => ratio)), 3),
  });
  return {
    echo: round(median(echoes), 1),
    javascript: result('javascript'),
    python: result('python'),
  };
}

/** The same agent with a journal and without, in turn. */
async function measureJournal(
  { options, say }: BenchContext,
  generator: Generator,
  real: Taker,
  without: Taker,
): Promise<NonNullable<Report['journal']>> {
  const { taskCount, runCount } = options;
  for (const { destination, noop } of [real, without]) {
    await generator.burst(destination, noop, Math.min(WARM_UP_COUNT, taskCount));
  }
  const rates = { real: [] as number[], without: [] as number[] };
  for (let run = 0; run < runCount; run += 1) {
    rates.real.push(await generator.burst(real.destination, real.noop, taskCount));
    rates.without.push(await generator.burst(without.destination, without.noop, taskCount));
    say(
      `journal: ${rates.real.at(-1)?.toFixed(0) ?? ''} tasks/s, null journal: ${rates.without.at(-1)?.toFixed(0) ?? ''}`,
    );
  }
  const tasksPerSecond = median(rates.real);
  const nullTasksPerSecond = median(rates.without);
  return {
    tasksPerSecond: round(tasksPerSecond, 0),
    nullTasksPerSecond: round(nullTasksPerSecond, 0),
    costShare: round(1 - tasksPerSecond / nullTasksPerSecond, 3),
  };
}
