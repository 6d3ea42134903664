/** The command line of the bench. */
import { parseArgs } from 'node:util';

import { UsageError } from '../src/base/errors.ts';

/** What can be measured, by the names of the keys in the JSON; in the order in which it is done. */
export const SECTIONS = [
  'start',
  'idle',
  'hub',
  'search',
  'echo',
  'javascript',
  'python',
  'payload1MiB',
  'journal',
  'reconnect',
  'queued',
  'profile',
  'globus',
] as const;

/** One thing that is measured. */
export type SectionName = (typeof SECTIONS)[number];

/** Sections that are run only when they are asked for. */
const ON_REQUEST: readonly SectionName[] = ['profile', 'globus'];

/** How much is measured, and how it is told. */
export interface BenchOptions {
  readonly sections: ReadonlySet<SectionName>;
  /** Tasks of one burst. */
  readonly taskCount: number;
  /** Bursts of which the median counts. */
  readonly runCount: number;
  readonly latencySamples: number;
  /** Tasks of 1 MiB in one burst. */
  readonly payloadCount: number;
  /** Tasks that wait at the broker while memory is measured. */
  readonly queuedCount: number;
  readonly idleMinutes: number;
  readonly isQuick: boolean;
  readonly output: 'table' | 'markdown' | 'json';
  /** A report made earlier with `--json`, to be shown instead of measuring. */
  readonly fromFile?: string;
  /** Where profiles and pictures go. */
  readonly outputDirectory?: string;
}

/** Shown by `--help`. */
export const USAGE = `usage: npm run bench -- [options]
  --quick              fewer runs, one minute of idling instead of ten
  --only SECTION,…     of: ${SECTIONS.join(', ')}
  --vs-globus          the engines of globus-compute-endpoint (from PyPI) in the same table
  --profile            CPU profiles of control process and worker host, flame graphs, µs per task
  --output-dir DIR     where those go (default .cache/bench)
  --tasks N            tasks of one burst (default 10000; quick 4000)
  --runs N             bursts of which the median counts (default 3; quick 1)
  --json | --markdown  the figures as JSON, or the table for docs/performance.md
  --from FILE          show a report that an earlier run wrote with --json, and measure nothing`;

/** Reads the command line; undefined when only help was asked for. @throws UsageError */
export function readOptions(args: readonly string[]): BenchOptions | undefined {
  const { values } = parse(args);
  if (values.help) {
    return undefined;
  }
  const quick = values.quick;
  const taskCount = count('tasks', values.tasks, quick ? 4_000 : 10_000);
  const onRequest = (name: SectionName): boolean =>
    (name === 'globus' && values['vs-globus']) || (name === 'profile' && values.profile);
  const sections =
    values.only === undefined
      ? SECTIONS.filter((name) => !ON_REQUEST.includes(name) || onRequest(name))
      : [...namedSections(values.only), ...ON_REQUEST.filter(onRequest)];
  if (values.json && values.markdown) {
    throw new UsageError('--json and --markdown exclude each other.');
  }
  return {
    sections: new Set(sections),
    taskCount,
    runCount: count('runs', values.runs, quick ? 1 : 3),
    latencySamples: Math.min(quick ? 200 : 500, Math.max(20, Math.floor(taskCount / 10))),
    payloadCount: Math.min(quick ? 50 : 200, taskCount),
    queuedCount: 100_000,
    idleMinutes: quick ? 1 : 10,
    isQuick: quick,
    output: values.json ? 'json' : values.markdown ? 'markdown' : 'table',
    ...(values.from !== undefined && { fromFile: values.from }),
    ...(values['output-dir'] !== undefined && { outputDirectory: values['output-dir'] }),
  };
}

// The return type is what parseArgs infers from the options.
function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string' },
        'vs-globus': { type: 'boolean', default: false },
        profile: { type: 'boolean', default: false },
        'output-dir': { type: 'string' },
        tasks: { type: 'string' },
        runs: { type: 'string' },
        json: { type: 'boolean', default: false },
        markdown: { type: 'boolean', default: false },
        from: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`, {
      cause: error,
    });
  }
}

function namedSections(text: string): SectionName[] {
  return text.split(',').map((word) => {
    const name = SECTIONS.find((section) => section === word.trim());
    if (name === undefined) {
      throw new UsageError(`--only ${word}: there are ${SECTIONS.join(', ')}.`);
    }
    return name;
  });
}

function count(flag: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!Number.isInteger(value) || value < 1) {
    throw new UsageError(`--${flag} ${text ?? ''}: a whole number above 0 is needed.`);
  }
  return value;
}
