/**
 * Finds what a machine lacks to run a private hub and the test suites, and installs it on Debian and Ubuntu.
 *
 *   node scripts/prerequisites.mjs [--check] [--yes]
 *
 * Only Node's own modules are used: this runs before `npm ci`. What is there is never touched, and a machine that has everything never
 * hears of apt. No system service is left running or enabled: the packages' servers are started privately, as children (src/hub/dev).
 */
import { spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { pathToFileURL } from 'node:url';

const SYSTEM_PATH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
const POLICY = '/usr/sbin/policy-rc.d';
/** Services that the packages bring and would start. */
const SERVICES = {
  cron: ['cron.service'],
  supervisor: ['supervisor.service'],
  'rabbitmq-server': ['rabbitmq-server.service', 'epmd.service', 'epmd.socket'],
  postgresql: ['postgresql.service'],
};

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function onPath(name) {
  return SYSTEM_PATH.map((directory) => join(directory, name)).find(isExecutable);
}

function names(directory) {
  return existsSync(directory) ? readdirSync(directory) : [];
}

/** What may be needed: how to see that it is there, and what brings it. */
const REQUIREMENTS = [
  {
    name: 'broker',
    title: 'RabbitMQ',
    packages: ['rabbitmq-server'],
    instead: 'set OUTPOST_AMQP_URL and OUTPOST_AMQP_MANAGEMENT_URL to a broker that runs elsewhere',
    present: () =>
      onPath('epmd') !== undefined &&
      names('/usr/lib/rabbitmq/lib').some((name) =>
        isExecutable(join('/usr/lib/rabbitmq/lib', name, 'sbin/rabbitmq-server')),
      ),
  },
  {
    name: 'database',
    title: 'PostgreSQL',
    packages: ['postgresql'],
    instead: 'set OUTPOST_DATABASE_URL to a database that runs elsewhere',
    present: () =>
      names('/usr/lib/postgresql').some((version) =>
        ['postgres', 'initdb'].every((program) =>
          isExecutable(join('/usr/lib/postgresql', version, 'bin', program)),
        ),
      ),
  },
  {
    name: 'python',
    title: 'Python 3 with venv',
    packages: ['python3', 'python3-venv'],
    instead: undefined,
    present: () =>
      isExecutable('/usr/bin/python3') &&
      spawnSync('/usr/bin/python3', ['-c', 'import ensurepip, venv'], { stdio: 'ignore' })
        .status === 0,
  },
  {
    name: 'util-linux',
    title: 'setpriv and unshare',
    packages: ['util-linux'],
    instead: undefined,
    present: () => onPath('setpriv') !== undefined && onPath('unshare') !== undefined,
  },
  {
    // For tests of the units; a machine that was not booted with it boots one in namespaces.
    name: 'systemd',
    title: 'systemd',
    packages: ['systemd'],
    instead: undefined,
    optional: true,
    present: () => isExecutable('/lib/systemd/systemd') && onPath('systemd-analyze') !== undefined,
  },
  {
    // For tests of what is done where there is no service manager.
    name: 'cron',
    title: 'cron',
    packages: ['cron'],
    instead: undefined,
    optional: true,
    present: () => onPath('crontab') !== undefined,
  },
  {
    // For tests of the recipe for it in docs/systemd.md.
    name: 'supervisor',
    title: 'supervisord',
    packages: ['supervisor'],
    instead: undefined,
    optional: true,
    present: () => onPath('supervisord') !== undefined,
  },
  {
    // For tests of execution environments: a root of its own for an interpreter.
    name: 'bubblewrap',
    title: 'bubblewrap',
    packages: ['bubblewrap'],
    instead: undefined,
    optional: true,
    present: () => onPath('bwrap') !== undefined,
  },
  {
    // For tests of execution environments: modules as a site has them, by this or by Lmod.
    name: 'modules',
    title: 'Environment Modules',
    packages: ['environment-modules'],
    instead: undefined,
    optional: true,
    present: () =>
      spawnSync('bash', ['-lc', 'command -v module'], { stdio: 'ignore' }).status === 0,
  },
  {
    // One chaos scenario needs it and says so itself when it is not there.
    name: 'faketime',
    title: 'libfaketime',
    packages: ['faketime'],
    instead: undefined,
    optional: true,
    present: () =>
      names('/usr/lib').some((name) =>
        existsSync(join('/usr/lib', name, 'faketime/libfaketimeMT.so.1')),
      ),
  },
];

/** Requirements that this machine does not meet, of those asked for (all by default). */
export function missingRequirements(wanted = REQUIREMENTS.map(({ name }) => name)) {
  return REQUIREMENTS.filter(({ name, present }) => wanted.includes(name) && !present());
}

/** How to become root without asking: as a prefix of commands, or undefined. */
function rootPrefix() {
  if (process.getuid?.() === 0) {
    return [];
  }
  const sudo = onPath('sudo');
  if (sudo === undefined) {
    return undefined;
  }
  return spawnSync(sudo, ['-n', 'true'], { stdio: 'ignore' }).status === 0
    ? [sudo, '-n']
    : undefined;
}

function run(prefix, command, args, options = {}) {
  const [file, ...rest] = [...prefix, command, ...args];
  return spawnSync(file, rest, { stdio: 'inherit', ...options });
}

function installCommand(packages) {
  return `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
}

/** Tells what to do by hand. */
export function explainMissing(missing) {
  const packages = missing.flatMap((requirement) => requirement.packages);
  const lines = [
    `Missing: ${missing.map(({ title }) => title).join(', ')}.`,
    `Install with: ${installCommand(packages)}   (as root)`,
  ];
  for (const { title, instead } of missing) {
    if (instead !== undefined) {
      lines.push(`Or, for ${title}, ${instead}.`);
    }
  }
  return lines.join('\n');
}

/** Whether apt knows a version of every package; without lists it knows none. */
function aptKnows(packages) {
  const answer = spawnSync('apt-cache', ['policy', ...packages], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  const candidates = answer.stdout.match(/^ {2}Candidate: (?!\(none\)).+$/gm) ?? [];
  return candidates.length === packages.length;
}

function aptInstall(prefix, packages) {
  const environment = ['env', 'DEBIAN_FRONTEND=noninteractive'];
  const aptGet = (...args) => run([...prefix, ...environment], 'apt-get', args).status === 0;
  const install = () => aptGet('install', '-y', '--no-install-recommends', ...packages);
  let updated = false;
  if (!aptKnows(packages)) {
    aptGet('update');
    updated = true;
  }
  // Lists that are too old name files that the mirror has replaced.
  return install() || (!updated && aptGet('update') && install());
}

/** Runs `work` while Debian's policy says that packages start no services; an existing policy is left alone. */
function withoutServiceStarts(prefix, work) {
  if (existsSync(POLICY)) {
    return work();
  }
  const scratch = mkdtempSync(join(tmpdir(), 'outpost-policy-'));
  const remove = () => run(prefix, 'rm', ['-f', POLICY]);
  const interrupted = (signal) => {
    remove();
    process.exit(128 + (signal === 'SIGINT' ? 2 : 15));
  };
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  try {
    writeFileSync(join(scratch, 'policy'), '#!/bin/sh\nexit 101\n');
    run(prefix, 'install', ['-m', '755', join(scratch, 'policy'), POLICY]);
    return work();
  } finally {
    remove();
    process.removeListener('SIGINT', interrupted);
    process.removeListener('SIGTERM', interrupted);
    rmSync(scratch, { recursive: true, force: true });
  }
}

function systemctl(args) {
  return spawnSync('systemctl', args, { stdio: 'ignore' }).status === 0;
}

function unitsInUse(units) {
  return new Set(
    units.filter(
      (unit) =>
        systemctl(['is-active', '--quiet', unit]) || systemctl(['is-enabled', '--quiet', unit]),
    ),
  );
}

/** Stops and disables what the fresh packages brought, and nothing that was in use before. */
function quietServices(prefix, units, before) {
  for (const unit of units.filter((name) => !before.has(name))) {
    if (systemctl(['is-active', '--quiet', unit])) {
      run(prefix, 'systemctl', ['stop', unit]);
    }
    if (systemctl(['is-enabled', '--quiet', unit])) {
      run(prefix, 'systemctl', ['disable', '--quiet', unit], { stdio: 'ignore' });
    }
  }
}

async function confirmed(packages, assumeYes) {
  if (assumeYes) {
    return true;
  }
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    return false;
  }
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const answer = await terminal.question(`Install ${packages.join(', ')} with apt-get? [Y/n] `);
    return /^(y(es)?)?$/i.test(answer.trim());
  } finally {
    terminal.close();
  }
}

/**
 * Makes sure that the machine has what is wanted; returns the requirements that are still missing.
 * Installs only after a yes: on the terminal, by `assumeYes`, or because CI is set. What is optional is never reported as missing.
 */
export async function ensurePrerequisites({ wanted, assumeYes = false } = {}) {
  const missing = missingRequirements(wanted);
  const withoutOptional = (list) => list.filter(({ optional }) => optional !== true);
  if (missing.length === 0) {
    return [];
  }
  const packages = missing.flatMap((requirement) => requirement.packages);
  const prefix = onPath('apt-get') === undefined ? undefined : rootPrefix();
  const mayInstall = assumeYes || ['true', '1'].includes(process.env.CI ?? '');
  if (prefix === undefined || !(await confirmed(packages, mayInstall))) {
    return withoutOptional(missing);
  }
  console.log(`installing: ${packages.join(', ')}`);
  const units = packages.flatMap((name) => SERVICES[name] ?? []);
  const before = unitsInUse(units);
  const installed = withoutServiceStarts(prefix, () => aptInstall(prefix, packages));
  quietServices(prefix, units, before);
  if (!installed) {
    console.error('apt-get failed; see its output above');
  }
  return withoutOptional(missingRequirements(wanted));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const unknown = process.argv.slice(2).filter((flag) => !['--yes', '--check'].includes(flag));
  if (unknown.length > 0) {
    console.error(`unknown: ${unknown.join(' ')}\nusage: prerequisites.mjs [--check] [--yes]`);
    process.exit(64);
  }
  const missing = process.argv.includes('--check')
    ? missingRequirements()
    : await ensurePrerequisites({ assumeYes: process.argv.includes('--yes') });
  if (missing.length > 0) {
    console.error(explainMissing(missing));
    process.exit(69);
  }
  console.log('everything that is needed is installed');
}
