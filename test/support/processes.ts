/** What tests ask about processes that are not their children. */
import { processIdentity } from '../../src/hub/dev/process-identity.ts';

/**
 * Whether a process runs. One that has ended counts as gone, also while nobody has reaped it: the first process of a machine or container,
 * which inherits the orphans, may take seconds for that, and signal 0 reaches them until then.
 */
export function isAlive(pid: number): boolean {
  return processIdentity(pid) !== undefined;
}
