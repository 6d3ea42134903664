/** `hub group`: the group of its commands. They act as the operator: no membership is asked for. */
import { defineGroup } from '../command-line.ts';

/** The group. */
export const group = defineGroup([
  {
    command: 'create <name>',
    summary: 'Create a group and print its id',
    load: async () => (await import('./group-create.ts')).groupCreate,
  },
  {
    command: 'list',
    summary: 'List the groups',
    load: async () => (await import('./group-list.ts')).groupList,
  },
  {
    command: 'show <group>',
    summary: 'Show a group and its members',
    load: async () => (await import('./group-show.ts')).groupShow,
  },
  {
    command: 'delete <group>',
    summary: 'Delete a group; nothing is shared with it any more',
    load: async () => (await import('./group-delete.ts')).groupDelete,
  },
  {
    command: 'add <group> <members>',
    summary: 'Add members, or change their role',
    load: async () => (await import('./group-members.ts')).groupAdd,
  },
  {
    command: 'remove <group> <members>',
    summary: 'Remove members',
    load: async () => (await import('./group-members.ts')).groupRemove,
  },
]);
