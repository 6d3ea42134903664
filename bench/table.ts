/** The report as a table: what was measured, what was found, what is aimed at, and where it is meant to end. */
import type {
  GlobusEngine,
  HubThroughput,
  PayloadThroughput,
  ProfileSummary,
  Report,
  Throughput,
} from './report.ts';

/** One line of the table. */
export interface Row {
  readonly what: string;
  readonly found: string;
  /** The target, in words; empty when there is none. */
  readonly target: string;
  /** Whether the target is met; undefined when there is none. */
  readonly isMet?: boolean;
  /** Where it is meant to end. */
  readonly aim: string;
}

/** Megabytes of growth below which memory counts as flat: garbage that has not been collected yet. */
const FLAT_MB = 10;
const SECONDS_PER_MINUTE = 60;

/** The rows of a report; a section that was not run has none. */
export function rows(report: Report): Row[] {
  const {
    echo,
    javascript,
    python,
    payload1MiB,
    hub,
    start,
    reconnect,
    idle,
    queued,
    journal,
    globus,
    search,
  } = report;
  return [
    ...when(echo, (it) => [
      plain('bare echo (publish confirmed, then ack), at once', `${it.tasksPerSecond} tasks/s`),
      plain('bare echo, idle latency p50 / p99', `${it.idleP50Ms} / ${it.idleP99Ms} ms`),
    ]),
    ...when(javascript, (it) => agentRows('JavaScript, 2 threads', it, 0.6, 0.8)),
    ...when(python, (it) => agentRows('Python, 2 interpreters', it, 0.5, 0.7)),
    ...when(payload1MiB, (it) => [
      plain('bare echo, 1 MiB', `${it.echo} tasks/s`),
      payloadRow('JavaScript, 1 MiB in and out', it.javascript),
      payloadRow('Python, 1 MiB in and out', it.python),
    ]),
    ...when(journal, (it) => [
      {
        what: 'cost of the journal (JavaScript, against none at all)',
        found: `${(it.costShare * 100).toFixed(1)} % (${it.tasksPerSecond} of ${it.nullTasksPerSecond} tasks/s)`,
        target: '≤ 25 %',
        isMet: it.costShare <= 0.25,
        aim: '',
      },
    ]),
    ...when(start, (it) => [limitRow('`agent start` until online, hub up', it.readyMs, 1000, 500)]),
    ...when(reconnect, (it) => [
      limitRow(
        'consuming again after the broker closed the connections',
        it.consumingMs,
        1000,
        300,
      ),
    ]),
    ...when(idle, idleRows),
    ...when(queued, (it) => [
      {
        what: 'control process, resident with 1 and with 100,000 tasks queued at the broker',
        found: `${it.rssMbAt1} → ${it.rssMbAt100k} MB (host ${it.hostRssMbAt1} → ${it.hostRssMbAt100k} MB)`,
        target: 'flat',
        isMet: it.rssMbAt100k - it.rssMbAt1 < FLAT_MB,
        aim: 'flat',
      },
    ]),
    ...when(hub, (it) => [
      hubRow(`our SDK → hub → agent → SDK, ${it.tasks} at once`, it.typescript),
      ...('skipped' in it.python
        ? [plain('globus-compute-sdk through the hub', `not run: ${it.python.skipped}`)]
        : [hubRow(`globus-compute-sdk ${it.python.sdkVersion} through the hub`, it.python)]),
    ]),
    ...when(search, (it) => [
      {
        what: `search over ${it.functions} functions, p50 / p99`,
        found: `${it.p50Ms} / ${it.p99Ms} ms`,
        target: 'p99 < 100 ms',
        isMet: it.p99Ms < 100,
        aim: '< 50 ms',
      },
    ]),
    ...when(globus, (it) =>
      Object.entries(it).flatMap(([name, engine]) => globusRows(name, engine)),
    ),
  ];
}

function when<T>(section: T | undefined, make: (section: T) => Row[]): Row[] {
  return section === undefined ? [] : make(section);
}

function plain(what: string, found: string): Row {
  return { what, found, target: '', aim: '' };
}

function agentRows(what: string, it: Throughput, target: number, aim: number): Row[] {
  return [
    {
      what: `${what}, journal on`,
      found: `${it.tasksPerSecond} tasks/s (${it.ratioToEcho.toFixed(2)} × echo)`,
      target: `${target} ×`,
      isMet: it.ratioToEcho >= target,
      aim: `${aim} ×`,
    },
    {
      what: `${what}, idle latency p50 / p99`,
      found: `${it.idleP50Ms} / ${it.idleP99Ms} ms (${it.latencyToEcho.toFixed(1)} × echo)`,
      target: '< 5 ×',
      isMet: it.latencyToEcho < 5,
      aim: '< 3 ×',
    },
  ];
}

function payloadRow(what: string, it: PayloadThroughput): Row {
  return {
    what,
    found: `${it.tasksPerSecond} tasks/s (${it.ratioToEcho.toFixed(2)} × echo)`,
    target: 'report',
    aim: '0.8 ×',
  };
}

function limitRow(what: string, ms: number, targetMs: number, aimMs: number): Row {
  return {
    what,
    found: `${ms} ms`,
    target: `< ${targetMs} ms`,
    isMet: ms < targetMs,
    aim: `< ${aimMs} ms`,
  };
}

function idleRows(it: NonNullable<Report['idle']>): Row[] {
  const share = (100 * it.cpuSecondsPerMinute) / SECONDS_PER_MINUTE;
  return [
    {
      what: 'idle, control process, resident',
      found: `${it.agentRssMb} MB`,
      target: '80 MB',
      isMet: it.agentRssMb <= 80,
      aim: '60 MB',
    },
    {
      what: `idle, control process, CPU over ${it.minutes} min`,
      found: `${share.toFixed(3)} % of a core (${it.cpuSecondsPerMinute} s per minute)`,
      target: '0.02 %',
      isMet: share <= 0.02,
      aim: '',
    },
    ...it.processes
      .filter(({ name }) => name !== 'control process')
      .map(({ name, rssMb, cpuSecondsPerMinute }) =>
        plain(`idle, ${name}`, `${rssMb} MB, ${cpuSecondsPerMinute} s per minute`),
      ),
  ];
}

function hubRow(what: string, it: HubThroughput): Row {
  return plain(
    what,
    `${it.tasksPerSecond} tasks/s; idle p50 / p99 ${it.idleP50Ms} / ${it.idleP99Ms} ms`,
  );
}

function globusRows(name: string, it: GlobusEngine | string): Row[] {
  const what = `globus-compute-endpoint, ${name}, 2 workers`;
  if (typeof it === 'string') {
    return [plain(what, `not measured: ${it}`)];
  }
  return [
    plain(what, `${it.tasksPerSecond} tasks/s (${it.ratioToEcho.toFixed(2)} × echo)`),
    plain(
      `${what}: idle latency, 1 MiB, first result, memory`,
      `${it.idleP50Ms} / ${it.idleP99Ms} ms; ${it.payload1MiBTasksPerSecond} tasks/s; ${it.startToFirstResultMs} ms; ` +
        `${it.idleRssMb} MB in ${it.idleProcesses} processes`,
    ),
  ];
}

function mark({ isMet }: Row): string {
  return isMet === undefined ? '' : isMet ? '✔' : '✘';
}

function conditionsText({ conditions: it }: Report): string {
  return (
    `${it.cores} cores (${it.cpu}, ${it.memoryGb} GB), ${it.platform}, Node ${it.node}, RabbitMQ ${it.rabbitmq}, PostgreSQL ${it.postgresql}; ` +
    `everything on this machine, no TLS; ${it.tasks} tasks at once, median of ${it.runs}; load ${it.load.before} before, ${it.date}, ${it.seconds} s.`
  );
}

/** The table for a terminal. */
export function terminalTable(report: Report): string {
  const lines = rows(report).map((row) => [row.what, row.found, row.target, mark(row), row.aim]);
  const all = [['', 'found', 'target', '', 'aim'], ...lines];
  const widths = [0, 1, 2, 3].map((column) =>
    Math.max(...all.map((cells) => cells[column]?.length ?? 0)),
  );
  const text = all.map((cells) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return [...text, '', ...profileLines(report), conditionsText(report)].join('\n');
}

/** The same for docs/performance.md. */
export function markdownTable(report: Report): string {
  const lines = rows(report).map(
    (row) =>
      `| ${row.what} | ${`${row.found} ${mark(row)}`.trimEnd()} | ${row.target} | ${row.aim} |`,
  );
  const table = ['| what | found | target | aim |', '| --- | --- | --- | --- |', ...lines];
  return [conditionsText(report), '', ...table, '', ...profileMarkdown(report)]
    .join('\n')
    .trimEnd();
}

function profileLines({ profile }: Report): string[] {
  if (profile === undefined) {
    return [];
  }
  const line = (name: string, it: ProfileSummary): string =>
    `µs per task, ${name}: ${Object.entries(it.microsPerTask)
      .map(([category, micros]) => `${category} ${micros}`)
      .join(', ')} (${it.picture})`;
  return [line('control process', profile.agent), line('worker host', profile.host), ''];
}

function profileMarkdown({ profile }: Report): string[] {
  if (profile === undefined) {
    return [];
  }
  const categories = Object.keys(profile.agent.microsPerTask);
  return [
    '| µs per task | control process | worker host |',
    '| --- | --- | --- |',
    ...categories.map(
      (category) =>
        `| ${category} | ${profile.agent.microsPerTask[category] ?? ''} | ${profile.host.microsPerTask[category] ?? ''} |`,
    ),
    `| together | ${profile.agent.wallMicrosPerTask} | ${profile.host.wallMicrosPerTask} |`,
  ];
}
