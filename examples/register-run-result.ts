/** Registers a function, runs it on an endpoint, and gets its result: `node register-run-result.js ENDPOINT_ID`. */
import { Client, TaskExecutionError, TaskPendingError } from 'outpost';

const [endpointId = ''] = process.argv.slice(2);
const client = new Client();

const hello = await client.registerFunction(
  (firstName: string, lastName: string) => `Hello ${firstName} ${lastName}`,
);
const taskId = await client.run(hello, { endpointId, args: ['Bob', 'Smith'] });
try {
  console.log(await client.getResult(taskId));
} catch (error) {
  if (!(error instanceof TaskPendingError)) {
    throw error;
  }
  console.log(`not yet: ${error.reason}`);
  console.log(await client.waitForResult(taskId));
}

// What a function throws arrives with its type, message and traceback.
const fails = await client.registerFunction(() => {
  throw new RangeError('too far');
});
try {
  await client.waitForResult(await client.run(fails, { endpointId }));
} catch (error) {
  if (!(error instanceof TaskExecutionError)) {
    throw error;
  }
  console.log(`${error.type}: ${error.remoteMessage}`);
}
