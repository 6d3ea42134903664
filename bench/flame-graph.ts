/**
 * A CPU profile as a picture that needs nothing but a browser: an SVG in which every function is a box as wide as its time, standing on
 * the function that called it. Titles say the rest when the pointer rests on a box. Idle time is left out: it says nothing.
 */
import { totalMicros } from './cpu-profile.ts';
import type { CallNode, CallTree } from './cpu-profile.ts';

const WIDTH = 1400;
const ROW_HEIGHT = 17;
const MARGIN = 10;
const HEADER_HEIGHT = 44;
/** Narrower boxes are left out. */
const BOX_WIDTH_MIN = 0.4;
const CHARACTER_WIDTH = 6.6;

/** A function, whoever called it at this place: recursion and several lines of one function are one box. */
interface Box {
  readonly label: string;
  readonly module: string;
  micros: number;
  readonly children: Map<string, Box>;
}

/** Draws a profile. `tasks` turns times into microseconds per task. */
export function flameGraph(tree: CallTree, title: string, tasks: number): string {
  const root = merge(tree.root.children.filter(({ functionName }) => functionName !== '(idle)'));
  const depth = depthOf(root);
  const height = HEADER_HEIGHT + (depth + 1) * ROW_HEIGHT + MARGIN;
  const scale = (WIDTH - 2 * MARGIN) / Math.max(1, root.micros);
  const busyMicros = root.micros / tasks;
  const wallMicros = tree.wallMicros / tasks;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="monospace" font-size="11">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    `<text x="${MARGIN}" y="18" font-size="14">${escape(title)}</text>`,
    `<text x="${MARGIN}" y="35">${busyMicros.toFixed(1)} µs busy of ${wallMicros.toFixed(1)} µs per task; width is time, idle is left out</text>`,
  ];
  const draw = (box: Box, x: number, row: number): void => {
    const width = box.micros * scale;
    if (width < BOX_WIDTH_MIN) {
      return;
    }
    parts.push(rectangle(box, x, height - MARGIN - (row + 1) * ROW_HEIGHT, width, root, tasks));
    let left = x;
    for (const child of [...box.children.values()].toSorted((a, b) => b.micros - a.micros)) {
      draw(child, left, row + 1);
      left += child.micros * scale;
    }
  };
  draw(root, MARGIN, 0);
  return [...parts, '</svg>', ''].join('\n');
}

function merge(nodes: readonly CallNode[]): Box {
  const all: Box = { label: 'all', module: '', micros: 0, children: new Map() };
  const add = (node: CallNode, parent: Box): void => {
    let box = parent.children.get(node.label);
    if (box === undefined) {
      box = { label: node.label, module: node.module, micros: 0, children: new Map() };
      parent.children.set(node.label, box);
    }
    box.micros += totalMicros(node);
    for (const child of node.children) {
      add(child, box);
    }
  };
  for (const node of nodes) {
    add(node, all);
    all.micros += totalMicros(node);
  }
  return all;
}

function depthOf(box: Box): number {
  return 1 + Math.max(0, ...[...box.children.values()].map(depthOf));
}

function rectangle(
  box: Box,
  x: number,
  y: number,
  width: number,
  root: Box,
  tasks: number,
): string {
  const letters = Math.floor((width - 4) / CHARACTER_WIDTH);
  const text = letters < 3 ? '' : box.label.slice(0, letters);
  const share = ((100 * box.micros) / Math.max(1, root.micros)).toFixed(1);
  const title = `${box.label}: ${(box.micros / tasks).toFixed(2)} µs per task, ${share} % of busy time`;
  return (
    `<g><title>${escape(title)}</title>` +
    `<rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${ROW_HEIGHT - 1}" fill="${colour(box.module)}" rx="1"/>` +
    (text === '' ? '' : `<text x="${(x + 2).toFixed(1)}" y="${y + 12}">${escape(text)}</text>`) +
    '</g>'
  );
}

/** One colour per origin: the journal, the rest of ours, amqplib, other dependencies, Node, the engine. */
function colour(module: string): string {
  if (module.startsWith('src/agent/journal/')) {
    return '#f2b134';
  }
  if (/^(src|bench|dist)\//.test(module)) {
    return '#f58a5b';
  }
  if (module.startsWith('node_modules/amqplib/')) {
    return '#7fb7be';
  }
  if (module.startsWith('node_modules/')) {
    return '#b8d8ba';
  }
  return module === '' ? '#d9d9d9' : '#c9cfe8';
}

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
