/** Submits many tasks at once, then asks for all of them at once: `node batch.js ENDPOINT_ID`. */
import { setTimeout } from 'node:timers/promises';

import { Client } from 'outpost';

const [endpointId = ''] = process.argv.slice(2);
const client = new Client();

const square = await client.registerFunction((x: number) => x * x);
const batch = client.createBatch();
for (let x = 0; x < 5; x += 1) {
  batch.add(square, { endpointId, args: [x] }); // each task may name another endpoint and another function
}
const taskIds = await client.batchRun(batch); // in the order in which they were added

let records = await client.getBatchResult(taskIds);
while ([...records.values()].some(({ pending }) => pending)) {
  await setTimeout(500);
  records = await client.getBatchResult(taskIds);
}
for (const record of records.values()) {
  console.log(record.status === 'success' ? record.result : record);
}
