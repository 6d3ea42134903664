/** Finds functions that others have described, and runs one: `node search.js ENDPOINT_ID`. */
import { Client } from 'outpost';

const [endpointId = ''] = process.argv.slice(2);
const client = new Client();

await client.registerFunction(
  function fibonacci(n: number): number {
    /** The n-th number of Fibonacci, slowly. */
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
  },
  { public: true },
);

// Your own functions, those shared with you, and public ones; the last word may be just begun.
const found = await client.searchFunction('number fibon', { offset: 0, limit: 5 });
for (const { function_name: name, description, author } of found.results) {
  console.log(`${name}: ${description ?? ''} (by ${author})`);
}
const [best] = found.results;
if (best !== undefined) {
  const taskId = await client.run<[number], number>(best.function_uuid, { endpointId, args: [10] });
  console.log(await client.waitForResult(taskId));
}
