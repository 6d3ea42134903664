/** Shares a function with a group, then with everybody, and takes it back: `node sharing.js [MEMBER…]`. */
import { Client } from 'outpost';

const members = process.argv.slice(2); // usernames or ids
const client = new Client();

const group = await client.createGroup('Lab 4', 'People of the lab');
await client.addGroupMembers(group.id, members);

// Its members may run it from the beginning; membership is checked at each execution.
const mean = await client.registerFunction(
  (numbers: number[]) => numbers.reduce((a, b) => a + b, 0) / numbers.length,
  { name: 'mean', description: 'My function: the mean of numbers', group: group.id },
);
console.log((await client.getFunctionSharing(mean)).groups.map(({ name }) => name));

await client.shareFunction(mean, { public: true });
console.log((await client.getFunctionSharing(mean)).public);
await client.unshareFunction(mean, { public: true, group: group.id });
console.log(await client.getFunctionSharing(mean).then(({ groups }) => groups.length));

await client.deleteFunction(mean);
await client.deleteGroup(group.id);
