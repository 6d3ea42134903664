/** `agent journal`: what the journal of an endpoint holds, read from its files, whether the agent runs or not. */
import { join } from 'node:path';

import { thisProcess } from '../../agent/agent-lock.ts';
import { inspectJournal } from '../../agent/journal/inspect.ts';
import type {
  InspectedHost,
  InspectedJournal,
  InspectedTask,
} from '../../agent/journal/inspect.ts';
import { defineCommand } from '../command-line.ts';
import { bytesText, printFields, printJson, printLine, printNote, printTable } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';

/** Tasks that are listed for people; `--json` has them all. */
const LISTED_TASKS_MAX = 100;

/** Shows what a journal holds. */
export const journal = defineCommand(
  (parser) => withEndpointName(parser),
  async (argv) => {
    const { directory } = await openEndpoint(argv.name);
    const { host, boot_id: bootId } = thisProcess();
    const found = await inspectJournal(join(directory.path, 'journal'), host, bootId);
    if (argv.json) {
      printJson({ name: directory.name, ...found });
      return 0;
    }
    printJournal(found);
    return 0;
  },
);

function printJournal({ tasks, hosts, notices, ...journalOf }: InspectedJournal): void {
  const { directory, bytes, free_bytes: free, network_file_system: network } = journalOf;
  printFields([
    ['Journal', directory],
    [
      'Size',
      `${bytesText(bytes)}${free === null ? '' : `, ${bytesText(free)} free`}${network === null ? '' : `, on ${network}`}`,
    ],
    ...hosts.map((host): [string, string] => [
      host.is_own ? 'This host' : `Host ${host.host}`,
      hostText(host),
    ]),
    ...hosts
      .flatMap(({ kept_aside: kept }) => kept)
      .map(({ file, bytes: size }): [string, string] => [
        'Kept aside',
        `${file} (${bytesText(size)})`,
      ]),
  ]);
  for (const notice of notices) {
    printNote(`Note: ${notice}`);
  }
  if (tasks.length === 0) {
    printNote('It holds no tasks.');
    return;
  }
  printLine();
  printTable(tasks.slice(0, LISTED_TASKS_MAX), [
    { title: 'TASK', value: (task) => task.task_id },
    { title: 'STATE', value: stateText },
    { title: 'ATTEMPTS', value: (task) => String(task.attempts), align: 'right' },
    { title: 'BYTES', value: (task) => String(task.bytes), align: 'right' },
    { title: 'LANGUAGE', value: (task) => task.language ?? '-' },
    { title: 'FUNCTION', value: (task) => task.function_id ?? '-' },
  ]);
  if (tasks.length > LISTED_TASKS_MAX) {
    printNote(`… and ${tasks.length - LISTED_TASKS_MAX} more: --json lists them all.`);
  }
}

function hostText({ tasks, tombstones, segments, bytes }: InspectedHost): string {
  return (
    `${tasks.received} waiting, ${tasks.started} started, ${tasks.done} with a result that is not confirmed; ` +
    `${tombstones} confirmed before; ${segments.length} segments, ${bytesText(bytes)}`
  );
}

function stateText({ state, begun }: InspectedTask): string {
  return begun === false ? 'started, not begun' : state;
}
