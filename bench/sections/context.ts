/** What every section is given. */
import type { BenchOptions } from '../options.ts';
import type { Site } from '../site.ts';

/** The site, what was asked for, and how to say what is going on. */
export interface BenchContext {
  readonly site: Site;
  readonly options: BenchOptions;
  /** One line for people, on stderr. */
  readonly say: (text: string) => void;
}

/** Settings of an agent that runs only JavaScript: two threads. */
export const JAVASCRIPT_ONLY = { 'javascript-threads': 2, 'python-interpreters': 0 } as const;

/** Settings of an agent that runs only Python: two interpreters. */
export const PYTHON_ONLY = { 'javascript-threads': 0, 'python-interpreters': 2 } as const;

/** The queue that the hub takes results from; with the hub stopped it is the bench's. */
export const RESULTS_QUEUE = 'results';
