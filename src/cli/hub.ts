#!/usr/bin/env node
/** The `hub` command. */
import { runCommandLine } from './command-line.ts';

await runCommandLine({
  program: 'hub',
  summary: 'Control plane of Outpost: functions, endpoints, tasks and who may use them.',
  commands: [
    {
      command: 'dev',
      summary: 'Run a hub with a private RabbitMQ and PostgreSQL, for development',
      load: async () => (await import('./hub/dev.ts')).dev,
    },
    {
      command: 'start',
      summary: 'Run a hub on the broker and database that are configured',
      load: async () => (await import('./hub/start.ts')).start,
    },
    {
      command: 'stop',
      summary: 'Stop the hub that `hub dev` started',
      load: async () => (await import('./hub/stop.ts')).stop,
    },
    {
      command: 'status',
      summary: 'Tell whether a hub runs and can serve',
      load: async () => (await import('./hub/status.ts')).status,
    },
    {
      command: 'tunnel <url>',
      summary: 'Serve a hub elsewhere on localhost, for programs that know no other address',
      load: async () => (await import('./hub/tunnel.ts')).tunnel,
    },
    {
      command: 'migrate',
      summary: 'Bring the database up to date',
      load: async () => (await import('./hub/migrate.ts')).migrate,
    },
    {
      command: 'client',
      summary: 'Clients that may sign in: create, list, rotate, delete',
      load: async () => (await import('./hub/client.ts')).client,
    },
    {
      command: 'group',
      summary: 'Groups that things are shared with: create, list, show, delete, add, remove',
      load: async () => (await import('./hub/group.ts')).group,
    },
    {
      command: 'user',
      summary: 'People that may sign in: create, list, disable, password',
      load: async () => (await import('./hub/user.ts')).user,
    },
  ],
  epilogue: 'Settings come from OUTPOST_* variables and ./.env; docs/hub.md lists them.',
});
