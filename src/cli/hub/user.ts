/** `hub user`: the group of its commands. */
import { defineGroup } from '../command-line.ts';

/** The group. */
export const user = defineGroup([
  {
    command: 'create <username>',
    summary: 'Add a person who signs in with a password',
    load: async () => (await import('./user-create.ts')).userCreate,
  },
  {
    command: 'list',
    summary: 'List the people',
    load: async () => (await import('./user-list.ts')).userList,
  },
  {
    command: 'disable <user>',
    summary:
      'Shut a person out, by id or username, and end their logins; --undo lets them in again',
    load: async () => (await import('./user-disable.ts')).userDisable,
  },
  {
    command: 'sign-out <user>',
    summary: 'End all logins of a person and cut their agents off, until they sign in again',
    load: async () => (await import('./user-sign-out.ts')).userSignOut,
  },
  {
    command: 'password <user>',
    summary: 'Give a person a new password and end their logins',
    load: async () => (await import('./user-password.ts')).userPassword,
  },
]);
