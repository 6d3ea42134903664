#!/usr/bin/env node
/** The `agent` command: endpoints of this machine. Each command's module is loaded when it is used. */
import { DEFAULT_ENDPOINT_NAME } from '../config/endpoint-directory.ts';
import { spawnAhead } from './agent/daemon-process.ts';
import type { CommandEntry } from './command-line.ts';

const COMMANDS: readonly CommandEntry[] = [
  {
    command: 'configure [name]',
    summary: 'Make the directory of a new endpoint',
    load: async () => (await import('./agent/configure.ts')).configure,
  },
  {
    command: 'start [name]',
    summary: 'Start an endpoint in the background and wait until it is online',
    load: async () => (await import('./agent/start.ts')).start,
  },
  {
    command: 'stop [name]',
    summary: 'Stop an endpoint; running tasks may finish',
    load: async () => (await import('./agent/stop.ts')).stop,
  },
  {
    command: 'restart [name]',
    summary: 'Stop an endpoint if it runs, and start it',
    load: async () => (await import('./agent/restart.ts')).restart,
  },
  {
    command: 'pause [name]',
    summary: 'Take no more tasks; what is held and runs goes on',
    load: async () => (await import('./agent/pause.ts')).pause,
  },
  {
    command: 'drain [name]',
    summary: 'Take no more tasks, hand back what has not begun, and wait until nothing runs',
    load: async () => (await import('./agent/drain.ts')).drain,
  },
  {
    command: 'resume [name]',
    summary: 'Take tasks again after a pause or a drain',
    load: async () => (await import('./agent/resume.ts')).resume,
  },
  {
    command: 'reload [name]',
    summary: 'Read the settings again, without a restart where that is possible',
    load: async () => (await import('./agent/reload.ts')).reload,
  },
  {
    command: 'status [name]',
    summary: 'Show what an endpoint does',
    load: async () => (await import('./agent/status.ts')).status,
  },
  {
    command: 'list',
    summary: 'List the endpoints of this user',
    load: async () => (await import('./agent/list.ts')).list,
  },
  {
    command: 'tasks [name]',
    summary: 'List the tasks that an endpoint holds',
    load: async () => (await import('./agent/tasks.ts')).tasks,
  },
  {
    command: 'journal [name]',
    summary: 'Show what the journal of an endpoint holds on disk',
    load: async () => (await import('./agent/journal.ts')).journal,
  },
  {
    command: 'logs [name]',
    summary: 'Show the log of an endpoint',
    load: async () => (await import('./agent/logs.ts')).logs,
  },
  {
    command: 'config',
    summary: 'Show settings',
    load: async () => (await import('./agent/config.ts')).config,
  },
  {
    command: 'login',
    summary: 'Sign in as a person, in a browser anywhere',
    load: async () => (await import('./agent/login.ts')).login,
  },
  {
    command: 'logout',
    summary: 'End the login of this user and forget it',
    load: async () => (await import('./agent/logout.ts')).logout,
  },
  {
    command: 'whoami [name]',
    summary: 'Show whose credentials are used, from where, at which hub',
    load: async () => (await import('./agent/whoami.ts')).whoami,
  },
  {
    command: 'delete [name]',
    summary: 'Delete an endpoint at the hub and its directory',
    load: async () => (await import('./agent/delete.ts')).deleteEndpoint,
  },
  {
    command: 'ensure [name]',
    summary: 'Start an endpoint unless it runs; for cron, as often as you like',
    load: async () => (await import('./agent/ensure.ts')).ensure,
  },
  {
    command: 'enable-on-boot [name]',
    summary: 'Start an endpoint whenever this machine starts',
    load: async () => (await import('./agent/enable-on-boot.ts')).enableOnBoot,
  },
  {
    command: 'disable-on-boot [name]',
    summary: 'Take back what enable-on-boot did',
    load: async () => (await import('./agent/disable-on-boot.ts')).disableOnBoot,
  },
  {
    command: 'worker <name>',
    summary: 'Run the worker host of an endpoint as a service of its own (agent-worker@.service)',
    load: async () => (await import('./agent/worker.ts')).worker,
  },
  {
    command: 'doctor [name]',
    summary: 'Look at all that an endpoint needs, and say what to do about what is wrong',
    load: async () => (await import('./agent/doctor.ts')).doctor,
  },
  {
    command: 'version',
    summary: 'Show versions',
    load: async () => (await import('./agent/version.ts')).version,
  },
];

spawnAhead(process.argv.slice(2));
// Only now: it takes as long to load as all of the above.
const { runCommandLine } = await import('./command-line.ts');
await runCommandLine({
  program: 'agent',
  summary: 'Runs functions on this machine, as an endpoint of an Outpost hub.',
  commands: COMMANDS,
  epilogue:
    `NAME is a name or an endpoint id; without one, "${DEFAULT_ENDPOINT_NAME}" is meant.\n` +
    'Endpoints lie in $OUTPOST_HOME, by default ~/.outpost. Settings: docs/configuration.md.\n' +
    'Exit codes follow sysexits.h: 64 usage, 69 refused or unknown, 73 exists or runs already, 75 try\n' +
    'again, 77 credentials refused, 78 settings wrong.',
});
