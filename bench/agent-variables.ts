/** How the bench tells agent-entry.ts what is to be different. */

/** `1`: the journal writes nothing. */
export const NULL_JOURNAL_VARIABLE = 'BENCH_NULL_JOURNAL';

/** Directory for the profiles of control process and worker host. */
export const PROFILE_DIRECTORY_VARIABLE = 'BENCH_PROFILE_DIRECTORY';
