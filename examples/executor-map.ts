/** Maps a function over items, and streams results as they end: `node executor-map.js ENDPOINT_ID`. */
import { Client, Executor, asCompleted } from 'outpost';

const [endpointId = ''] = process.argv.slice(2);
const client = new Client();
await using executor = new Executor({ client, endpointId });

console.log(await executor.submit((a: number, b: number) => a + b, 20, 22));
console.log(await executor.map((x: number) => x * x, [1, 2, 3, 4], { chunk: 2 }));

function* cases(): Iterable<number> {
  for (let x = -1; x < 3; x += 1) {
    yield x;
  }
}
const root = (x: number): number => {
  if (x < 0) {
    throw new RangeError(`no root of ${x}`);
  }
  return Math.sqrt(x);
};
// Items are pulled as there is room; a failure is data.
for await (const outcome of executor.map(root, cases()).settled()) {
  console.log(outcome.status, outcome.index);
}

const futures = ['b', 'a'].map((text) => executor.submit((t: string) => t.toUpperCase(), text));
const letters: string[] = [];
for await (const future of asCompleted(futures)) {
  letters.push(await future);
}
console.log(letters.sort().join(''));
