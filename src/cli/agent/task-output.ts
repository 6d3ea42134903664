/**
 * `agent logs --task`: what one task printed here and how it ended, whether the agent runs or not. Whoever wrote the function need not
 * be who looks: on a terminal nothing of it can steer that, unless it is asked for as it was printed.
 */
import { join } from 'node:path';

import { thisProcess } from '../../agent/agent-lock.ts';
import { inspectJournal } from '../../agent/journal/inspect.ts';
import { readTaskLog } from '../../agent/task-logs/read-task-log.ts';
import { taskLogDirectory } from '../../agent/task-logs/task-log-files.ts';
import type { TaskLogEntry } from '../../agent/task-logs/task-log-files.ts';
import { ConflictError, UsageError } from '../../base/errors.ts';
import { canonicalUuid } from '../../protocol/messages.ts';
import { durationText, printFields, printJson, printLine, printNote, timeText } from '../output.ts';
import { harmlessText } from '../terminal.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { askAgent, findPresence } from './presence.ts';
import { fieldsOf } from './status-document.ts';

const LIMIT_MS = 5_000;

type Stream = 'stdout' | 'stderr';

/** What the agent, or its journal while it is stopped, says of a task. */
interface KnownTask {
  /** Where it stands while it has not been answered for; null otherwise. */
  readonly phase: string | null;
  readonly isConfirmed: boolean;
  /** Whether a running agent was asked: only that knows of tasks that are over. */
  readonly isFromAgent: boolean;
}

/** Shows the output of a task. @throws ConflictError TASK_NOT_FOUND when nothing is known of it here. */
export async function showTaskOutput(
  context: EndpointContext,
  text: string,
  show: { readonly stream: Stream | undefined; readonly isRaw: boolean; readonly json: boolean },
): Promise<number> {
  const { stream, isRaw, json } = show;
  const shown = isRaw || !process.stdout.isTTY ? (text: string): string => text : harmlessText;
  const taskId = canonicalUuid(text);
  if (taskId === undefined) {
    throw new UsageError(`${JSON.stringify(text)} is not the id of a task, which is a UUID.`);
  }
  // First: a running agent writes down what it still has in memory.
  const known = await askForTask(context, taskId);
  const attempts = await readTaskLog(taskLogDirectory(context.directory.path), taskId);
  if (attempts.length === 0 && known.phase === null && !known.isConfirmed) {
    throw notFound(context, taskId, known);
  }
  if (json) {
    printJson({ task_id: taskId, phase: known.phase, attempts });
  } else if (stream !== undefined) {
    for (const attempt of attempts) {
      process.stdout.write(shown(attempt[stream] ?? ''));
    }
  } else {
    for (const attempt of attempts) {
      printAttempt(attempt, shown);
    }
  }
  if (known.phase !== null && known.phase !== 'done') {
    printNote(
      `Task ${taskId} is ${known.phase}; what it prints can be seen here when it has ended.`,
    );
  } else if (attempts.length === 0) {
    printNote(
      `Task ${taskId} has ended here, and nothing of its output is kept: it succeeded and printed nothing, or that was longer ago than task_logs_days, or more than task_logs_bytes_max has been printed since. Its result is at the hub.`,
    );
  }
  return 0;
}

async function askForTask(context: EndpointContext, taskId: string): Promise<KnownTask> {
  const { directory } = context;
  if ((await findPresence(directory)).kind === 'running') {
    const reply = fieldsOf(await askAgent(context, 'task', LIMIT_MS, { task_id: taskId }));
    const { phase } = fieldsOf(reply['task']);
    return {
      phase: typeof phase === 'string' ? phase : null,
      isConfirmed: reply['journal'] === 'confirmed',
      isFromAgent: true,
    };
  }
  const { host, boot_id: bootId } = thisProcess();
  const { tasks } = await inspectJournal(join(directory.path, 'journal'), host, bootId);
  const state = tasks.find((task) => task.task_id === taskId)?.state ?? null;
  return { phase: state, isConfirmed: false, isFromAgent: false };
}

function notFound(
  { directory }: EndpointContext,
  taskId: string,
  { isFromAgent }: KnownTask,
): ConflictError {
  const where = isFromAgent
    ? `Endpoint ${directory.name} has not had task ${taskId} within the last 14 days.`
    : `Nothing is kept of task ${taskId} here. Endpoint ${directory.name} does not run on this host now, so whether it had the task and the task printed nothing cannot be told; ask again while it runs, and where it runs.`;
  return new ConflictError(
    'TASK_NOT_FOUND',
    `${where} Which endpoint a task was sent to, and its result, is known to the hub: GET /v2/tasks/${taskId}. Other endpoints of this machine: agent list`,
    { details: { taskId } },
  );
}

function printAttempt(entry: TaskLogEntry, shown: (text: string) => string): void {
  printFields([
    ['Task', entry.task_id],
    ['Function', `${entry.function_id === '' ? '?' : entry.function_id} (${entry.language})`],
    ['Outcome', outcomeText(entry)],
    ['Received', timeOrNone(entry.received_at)],
    ['Began', timeOrNone(entry.began_at)],
    ['Ended', endText(entry)],
    ['Attempt', entry.attempt > 1 ? String(entry.attempt) : undefined],
  ]);
  for (const stream of ['stdout', 'stderr'] as const) {
    const text = shown(entry[stream] ?? '');
    if (text !== '') {
      printLine();
      printLine(`--- ${stream}${entry.truncated === true ? ' (the end of it)' : ''}`);
      printLine(text.endsWith('\n') ? text.slice(0, -1) : text);
    }
  }
  printLine();
}

function outcomeText({ outcome, code, message }: TaskLogEntry): string {
  if (code !== undefined) {
    return `${outcome}: ${code}: ${message ?? ''}`;
  }
  return outcome === 'failed'
    ? 'failed: the function raised an exception, or its value could not be returned; the result says which'
    : outcome;
}

function endText({ began_at: began, ended_at: ended }: TaskLogEntry): string {
  const ran = began === null ? NaN : Date.parse(ended) - Date.parse(began);
  return `${timeText(Date.parse(ended))}${Number.isNaN(ran) ? '' : ` (ran ${durationText(ran)})`}`;
}

function timeOrNone(iso: string | null): string | undefined {
  return iso === null ? undefined : timeText(Date.parse(iso));
}
