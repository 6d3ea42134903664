/** The tasks that the bench sends: the bytes that a hub would publish, for functions that do next to nothing. */
import { randomUUID } from 'node:crypto';

import { packTask } from '../src/protocol/messages.ts';
import { packBuffers } from '../src/protocol/serialization.ts';

/** What a task does, and in which language. */
export type TaskKind =
  | 'javascript-noop'
  | 'python-noop'
  | 'javascript-1MiB'
  | 'python-1MiB'
  /** Waits until the file that is its argument exists. */
  | 'javascript-wait'
  | 'python-wait';

/** A message ready to be published. */
export interface TaskMessage {
  readonly body: Buffer;
  readonly headers: { readonly function_uuid: string; readonly task_uuid: string };
}

const MIB = 1024 * 1024;

const FUNCTIONS: Readonly<Record<TaskKind, string>> = {
  'javascript-noop': 'js\nnoop:() => 1',
  'python-noop': 'st\nnoop:def noop():\n    return 1\n',
  'javascript-1MiB': 'js\necho:(text) => text',
  'python-1MiB': 'st\necho:def echo(text):\n    return text\n',
  'javascript-wait':
    "js\nwait:async (path) => { const { existsSync } = await import('node:fs'); while (!existsSync(path)) { await new Promise((resolve) => setTimeout(resolve, 50)); } return 1; }",
  'python-wait':
    'st\nwait:def wait(path):\n    import os, time\n    while not os.path.exists(path):\n        time.sleep(0.05)\n    return 1\n',
};

/** Makes tasks of one kind; the part that they share is packed once. */
export function taskMaker(kind: TaskKind, argument?: string): () => TaskMessage {
  const text = kind.endsWith('-1MiB') ? 'x'.repeat(MIB) : argument;
  const functionId = randomUUID();
  const buffer = packBuffers([
    FUNCTIONS[kind],
    `11\n${JSON.stringify(text === undefined ? [] : [text])}`,
    '11\n{}',
  ]);
  return () => {
    const taskId = randomUUID();
    return {
      body: packTask({ task_id: taskId, task_buffer: buffer }),
      headers: { function_uuid: functionId, task_uuid: taskId },
    };
  };
}
