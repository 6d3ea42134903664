/**
 * Reads what V8's profiler wrote: where each sample lay, and how long it stood for. Names of compiled modules are shortened to what a
 * reader of the sources knows.
 */
import { readFile } from 'node:fs/promises';

/** One function at one place in the tree of calls. */
export interface CallNode {
  /** Function and module, for people. */
  readonly label: string;
  readonly functionName: string;
  /** `node:fs`, `src/agent/dispatcher.js`, `node_modules/amqplib/lib/mux.js`, or empty for the engine itself. */
  readonly module: string;
  readonly parent: CallNode | undefined;
  readonly children: CallNode[];
  /** Time in this function itself, in microseconds. */
  selfMicros: number;
}

interface ProfileNode {
  readonly id: number;
  readonly callFrame: {
    readonly functionName: string;
    readonly url: string;
    readonly lineNumber: number;
  };
  readonly children?: readonly number[];
}

interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
  readonly startTime: number;
  readonly endTime: number;
}

/** A profile as a tree. */
export interface CallTree {
  readonly root: CallNode;
  readonly nodes: readonly CallNode[];
  /** From the first sample to the last, in microseconds. */
  readonly wallMicros: number;
}

/** Reads a `.cpuprofile`. */
export async function readCpuProfile(path: string): Promise<CallTree> {
  return callTree(JSON.parse(await readFile(path, 'utf8')) as CpuProfile);
}

/** Makes the tree of a profile. */
export function callTree(profile: CpuProfile): CallTree {
  const sources = new Map(profile.nodes.map((node) => [node.id, node]));
  const byId = new Map<number, CallNode>();
  const build = (source: ProfileNode, parent: CallNode | undefined): CallNode => {
    const { functionName, url, lineNumber } = source.callFrame;
    const module = moduleName(url);
    const name = functionName === '' ? '(anonymous)' : functionName;
    const place = module === '' ? '' : ` ${module}:${lineNumber + 1}`;
    const node: CallNode = {
      label: `${name}${place}`,
      functionName: name,
      module,
      parent,
      children: [],
      selfMicros: 0,
    };
    byId.set(source.id, node);
    for (const id of source.children ?? []) {
      const child = sources.get(id);
      if (child !== undefined) {
        node.children.push(build(child, node));
      }
    }
    return node;
  };
  const first = profile.nodes[0];
  const root = build(
    first ?? { id: 0, callFrame: { functionName: '(root)', url: '', lineNumber: -1 } },
    undefined,
  );
  // A delta is the time before its sample: what a sample stands for lasts until the next one.
  profile.samples.forEach((id, index) => {
    const node = byId.get(id);
    if (node !== undefined) {
      node.selfMicros += Math.max(0, profile.timeDeltas[index + 1] ?? 0);
    }
  });
  const nodes = [...byId.values()];
  return { root, nodes, wallMicros: nodes.reduce((sum, node) => sum + node.selfMicros, 0) };
}

/** Time in a function and in everything that it called, in microseconds. */
export function totalMicros(node: CallNode): number {
  return node.children.reduce((sum, child) => sum + totalMicros(child), node.selfMicros);
}

function moduleName(url: string): string {
  const dependency = url.lastIndexOf('node_modules/');
  if (dependency >= 0) {
    return url.slice(dependency);
  }
  const own = /\/((?:src|bench|dist)\/.*)$/.exec(url)?.[1];
  return own ?? url;
}
