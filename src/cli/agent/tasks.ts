/** `agent tasks`: what a running agent holds, each task with its way so far, from the control socket. */
import { ConflictError, UsageError } from '../../base/errors.ts';
import { canonicalUuid } from '../../protocol/messages.ts';
import { defineCommand } from '../command-line.ts';
import {
  durationText,
  printFields,
  printJson,
  printNote,
  printTable,
  timeText,
} from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { askAgent, requireRunning } from './presence.ts';
import { fieldsOf } from './status-document.ts';

const TASKS_LIMIT_MS = 5_000;

type Fields = Readonly<Record<string, unknown>>;

/** What the phases of a task are called for people. */
const PHASES: Readonly<Record<string, string>> = {
  accepting: 'being accepted',
  ahead: 'handed to a worker',
  done: 'result not confirmed',
};

/** Lists the tasks that an endpoint holds, or tells the way of one. */
export const tasks = defineCommand(
  (parser) =>
    withEndpointName(parser).option('task', {
      type: 'string',
      requiresArg: true,
      describe: 'Only the task with this id, with the times of its states',
    }),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    await requireRunning(context.directory);
    return argv.task === undefined
      ? await listTasks(context, argv.json)
      : await showTask(context, argv.task, argv.json);
  },
);

async function listTasks(context: EndpointContext, json: boolean): Promise<number> {
  const reply = fieldsOf(await askAgent(context, 'tasks', TASKS_LIMIT_MS));
  const list: unknown = reply['tasks'];
  const rows = Array.isArray(list) ? list.map((row: unknown) => fieldsOf(row)) : [];
  const total = typeof reply['total'] === 'number' ? reply['total'] : rows.length;
  if (json) {
    printJson({ total, tasks: rows });
    return 0;
  }
  if (rows.length === 0) {
    printNote('The endpoint holds no tasks.');
    return 0;
  }
  printTable(rows, [
    { title: 'TASK', value: ({ taskId }) => textOf(taskId) },
    { title: 'STATE', value: ({ phase }) => phaseText(phase) },
    { title: 'RECEIVED', value: (row) => timeOf(row, 'received') },
    { title: 'RUNNING SINCE', value: (row) => timeOf(row, 'running') },
    { title: 'ENDED', value: (row) => timeOf(row, 'ended') },
    { title: 'ATTEMPTS', value: ({ attempts }) => textOf(attempts), align: 'right' },
    { title: 'LANGUAGE', value: ({ language }) => textOf(language) },
    { title: 'FUNCTION', value: ({ functionId }) => textOf(functionId) },
  ]);
  if (total > rows.length) {
    printNote(`… and ${total - rows.length} more, whose results wait for the broker.`);
  }
  return 0;
}

async function showTask(context: EndpointContext, text: string, json: boolean): Promise<number> {
  const taskId = canonicalUuid(text);
  if (taskId === undefined) {
    throw new UsageError(`${JSON.stringify(text)} is not the id of a task, which is a UUID.`);
  }
  const reply = fieldsOf(await askAgent(context, 'task', TASKS_LIMIT_MS, { task_id: taskId }));
  if (reply['task'] === null) {
    throw notHeld(context.directory.name, taskId, reply['journal'] === 'confirmed');
  }
  const task = fieldsOf(reply['task']);
  if (json) {
    printJson(task);
    return 0;
  }
  printFields([
    ['Task', taskId],
    ['Function', `${textOf(task['functionId'])} (${textOf(task['language'])})`],
    ['State', phaseText(task['phase'])],
    ['Attempts', textOf(task['attempts'])],
    ...statesOf(task).map(({ state, atMs }): [string, string] => [
      `${state.slice(0, 1).toUpperCase()}${state.slice(1)}`,
      `${timeText(atMs)} (${durationText(Date.now() - atMs)} ago)`,
    ]),
  ]);
  return 0;
}

function notHeld(name: string, taskId: string, isConfirmed: boolean): ConflictError {
  const message = isConfirmed
    ? `Task ${taskId} is over: its result was delivered to the hub. What it printed: agent logs ${name} --task ${taskId}`
    : `Endpoint ${name} does not hold task ${taskId}, and has not had it within the last 14 days. Which endpoint it was sent to is known to the hub: GET /v2/tasks/${taskId}`;
  return new ConflictError('TASK_NOT_FOUND', message, { details: { taskId } });
}

function statesOf(task: Fields): { readonly state: string; readonly atMs: number }[] {
  const states = Array.isArray(task['states']) ? (task['states'] as unknown[]) : [];
  return states.map((one) => {
    const { state, at } = fieldsOf(one);
    return { state: textOf(state), atMs: Date.parse(textOf(at)) };
  });
}

function timeOf(task: Fields, state: string): string {
  const reached = statesOf(task).find((one) => one.state === state);
  return reached === undefined ? '-' : timeText(reached.atMs);
}

function phaseText(phase: unknown): string {
  const text = textOf(phase);
  return PHASES[text] ?? text;
}

function textOf(value: unknown): string {
  if (value === undefined || value === null || value === '') {
    return '-';
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}
