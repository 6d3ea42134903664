/**
 * Where the microseconds of a task go: each sample of a profile belongs to one category, told by the function that ran and by those
 * that had called it, from the innermost outwards.
 */
import type { CallNode, CallTree } from './cpu-profile.ts';

/** Categories, in the order in which a table shows them. */
export const CATEGORIES = [
  'idle',
  'journal',
  'amqp write',
  'amqp read',
  'host frames',
  'dispatch',
  'worker host',
  'gc',
  'runtime',
] as const;

/** One of them. */
export type Category = (typeof CATEGORIES)[number];

/** First match counts, per function from the innermost outwards. */
const MODULES: readonly (readonly [RegExp, Category])[] = [
  [/^src\/agent\/journal\//, 'journal'],
  [/^(bench\/null-journal)/, 'journal'],
  [/^src\/(agent\/worker-host|workers\/frame-writer|protocol\/(host-)?frames)/, 'host frames'],
  [/^src\/transport\/amqp\/publisher/, 'amqp write'],
  [/^src\/transport\/amqp\//, 'amqp read'],
  [/^node_modules\/piscina\//, 'worker host'],
  [/^src\/workers\//, 'worker host'],
  [/^src\/(agent|protocol|base)\//, 'dispatch'],
];

/** Functions of amqplib that put bytes on the wire; the rest of it reads and routes. */
const AMQP_WRITES =
  /^(send\w*|write\w*|encode\w*|publish|ack\w*|nack\w*|Mux\w*|schedulePacket|_read|pipe\w*)$/i;
/** Native calls that write; who called them is what counts. */
const SOCKET_WRITES =
  /^(write\w*|writev|writeGeneric|_write\w*|afterWriteDispatched|doWrite|onwrite\w*)$/i;

/** Microseconds per category. They add up to the time that was profiled. */
export function summarize(tree: CallTree): Record<Category, number> {
  const found = Object.fromEntries(CATEGORIES.map((name) => [name, 0])) as Record<Category, number>;
  for (const node of tree.nodes) {
    if (node.selfMicros > 0) {
      found[categoryOf(node)] += node.selfMicros;
    }
  }
  return found;
}

function categoryOf(leaf: CallNode): Category {
  if (leaf.functionName === '(idle)') {
    return 'idle';
  }
  if (leaf.functionName === '(garbage collector)') {
    return 'gc';
  }
  let isWriting = false;
  for (let node: CallNode | undefined = leaf; node !== undefined; node = node.parent) {
    isWriting ||= SOCKET_WRITES.test(node.functionName);
    const category = categoryOfFunction(node, isWriting);
    if (category !== undefined) {
      return category;
    }
  }
  return 'runtime';
}

function categoryOfFunction(node: CallNode, isWriting: boolean): Category | undefined {
  if (node.module.startsWith('node_modules/amqplib/')) {
    return isWriting || AMQP_WRITES.test(node.functionName) ? 'amqp write' : 'amqp read';
  }
  return MODULES.find(([pattern]) => pattern.test(node.module))?.[1];
}
