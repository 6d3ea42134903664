/** Runs Python functions from TypeScript, as source with JSON data: `node python-from-typescript.js ENDPOINT_ID`. */
import { Client, Executor, TaskExecutionError } from 'outpost';

const [endpointId = ''] = process.argv.slice(2);
const client = new Client();

const statistics = await client.registerPythonFunction<[numbers: number[]], { mean: number }>(`
def statistics(numbers, digits=1):
    """Describes a list of numbers."""
    from statistics import mean, stdev
    return {"mean": round(mean(numbers), digits), "stdev": round(stdev(numbers), digits)}
`);
const numbers = [2, 4, 4, 4, 5, 5, 7, 9];
const taskId = await client.run(statistics, { endpointId, args: [numbers], kwargs: { digits: 2 } });
console.log(await client.waitForResult(taskId));

await using executor = new Executor({ client, endpointId });
try {
  await executor.submitToRegisteredFunction(statistics, [[]]);
} catch (error) {
  if (!(error instanceof TaskExecutionError)) {
    throw error;
  }
  console.log(`${error.type}: ${error.remoteMessage}`); // the exception of the other language
}
