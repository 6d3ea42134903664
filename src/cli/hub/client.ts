/** `hub client`: the group of its commands. */
import { defineGroup } from '../command-line.ts';

/** The group. */
export const client = defineGroup([
  {
    command: 'create <name>',
    summary: 'Create a client and print its secret, once',
    load: async () => (await import('./client-create.ts')).clientCreate,
  },
  {
    command: 'list',
    summary: 'List the clients',
    load: async () => (await import('./client-list.ts')).clientList,
  },
  {
    command: 'rotate <client>',
    summary: 'Give a client, by id or name, a new secret; the old one is refused from then on',
    load: async () => (await import('./client-rotate.ts')).clientRotate,
  },
  {
    command: 'delete <client>',
    summary: 'Delete a client, by id or name, and with it its tokens',
    load: async () => (await import('./client-delete.ts')).clientDelete,
  },
]);
