/** `agent tasks`: what a running agent holds, from its control socket. */
import { defineCommand } from '../command-line.ts';
import { printJson, printNote, printTable } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { askAgent, requireRunning } from './presence.ts';
import { fieldsOf } from './status-document.ts';

const TASKS_LIMIT_MS = 5_000;

/** Lists the tasks that an endpoint holds. */
export const tasks = defineCommand(
  (parser) => withEndpointName(parser),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    await requireRunning(context.directory);
    const reply = await askAgent(context, 'tasks', TASKS_LIMIT_MS);
    const rows = Array.isArray(reply) ? reply.map((row: unknown) => fieldsOf(row)) : [];
    if (argv.json) {
      printJson({ tasks: rows });
      return 0;
    }
    if (rows.length === 0) {
      printNote('The endpoint holds no tasks.');
      return 0;
    }
    const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    printTable(
      rows,
      names.map((name) => ({
        title: name
          .replaceAll(/(?<lower>[a-z])(?<upper>[A-Z])/g, '$<lower>_$<upper>')
          .toUpperCase(),
        value: (row) => cellText(row[name]),
      })),
    );
    return 0;
  },
);

function cellText(value: unknown): string {
  if (value === undefined || value === null) {
    return '-';
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}
