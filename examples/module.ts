/** Runs a function that comes as a module with what it imports, bundled into one text: `node module.js ENDPOINT_ID`. */
import type { countWords } from './word-count/count-words.ts';
import { Client } from 'outpost';

const [endpointId = ''] = process.argv.slice(2);
const client = new Client();

const file = new URL('./word-count/count-words.js', import.meta.url); // or the .ts file itself
const count = await client.registerModule<typeof countWords>(file, 'countWords', {
  description: 'How often each word occurs in a text.',
});
const taskId = await client.run(count, { endpointId, args: ['To be or not to be'] });
const { counts, sha1 } = await client.waitForResult(taskId);
console.log(counts['be'], sha1.length);
