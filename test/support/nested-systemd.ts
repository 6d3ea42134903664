/**
 * A machine of its own for the units: a real systemd as the first process of its namespaces, with this build installed as /usr/bin/agent
 * and /usr/bin/hub, the packaged units beside nothing but empty targets, and its own /etc, /run, /var/lib and users. It shares the network,
 * so the hub and broker of the tests are on its localhost.
 *
 * What it writes lies in one directory and survives `reboot()`. It takes root and the right to mount; `whyNot` says what is missing.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { packageRoot } from '../../src/base/package-root.ts';
import { eventually } from './eventually.ts';
import { runProgram } from './stack.ts';
import type { CommandOutcome } from './stack.ts';

const SYSTEMD = '/lib/systemd/systemd';
/** Debian's own: it matters how that treats what cron has started. */
const CRON_UNIT = '/lib/systemd/system/cron.service';
const BOOT_LIMIT_MS = 60_000;
const CLI = fileURLToPath(new URL('../../src/cli/', import.meta.url));
/** Where things lie inside. */
const INSIDE = '/srv/outpost';

/** Targets that services depend on by default; nothing of the real machine's is started. */
const TARGETS = [
  ...['sysinit', 'basic', 'shutdown', 'network-online', 'multi-user', 'default', 'umount'],
  ...['local-fs', 'sockets', 'timers', 'paths', 'slices', 'exit', 'poweroff', 'final'],
];

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Hardened services have a /proc of their own, in which the boot id is the host's; commands must see the same, or locks look stale to them. */
const SERVICE_USER = 'outpost';
const BOOT_ID_OF_HOST = ['unshare', '--mount', 'sh', '-c', 'umount /proc/sys/kernel/random/boot_id; exec "$@"', 'sh']; // prettier-ignore

/** Runs in the new namespaces. $1: the directory of the machine; $2: the package; $3: node. */
const BOOT = `
set -e
machine=$1 package=$2 node=$3
mount --make-rprivate /
mount -t proc proc /proc
cat /proc/sys/kernel/random/uuid > "$machine/boot-id"
mount --bind "$machine/boot-id" /proc/sys/kernel/random/boot_id
mount -t tmpfs -o mode=0755 tmpfs /run
umount -R -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
overlay() { mount -t overlay overlay -o "lowerdir=$1,upperdir=$machine/$2,workdir=$machine/$2.work" "$1"; }
overlay /etc etc
overlay /usr/bin bin
if [ -d /var/spool/cron/crontabs ]; then
  mkdir -p "$machine/crontabs" && chmod 1730 "$machine/crontabs" && chgrp crontab "$machine/crontabs"
  mount --bind "$machine/crontabs" /var/spool/cron/crontabs
fi
mount --bind "$machine/var-lib" /var/lib
mount -t tmpfs -o mode=0755 tmpfs /srv
mkdir ${INSIDE} ${INSIDE}/package
touch ${INSIDE}/node
mount --bind "$node" ${INSIDE}/node
mount --bind "$package" ${INSIDE}/package
if [ ! -e "$machine/installed" ]; then
  # Jobs of the real machine are none of its business.
  rm -rf /etc/systemd/system /etc/crontab /etc/cron.d
  mkdir -p /etc/systemd/system
  systemd-sysusers ${INSIDE}/package/systemd/sysusers.d/outpost.conf
  touch "$machine/installed"
fi
# As systemd does where it is no container: credentials reach a service by a mount that spreads.
mount --make-rshared /
systemd-tmpfiles --create ${INSIDE}/package/systemd/tmpfiles.d/outpost.conf
exec env -i PATH=${PATH} container=outpost LANG=C.UTF-8 SYSTEMD_LOG_TARGET=console SYSTEMD_UNIT_PATH=/etc/systemd/system:"$machine/units" \\
  ${SYSTEMD} --system --unit=multi-user.target --log-level=info
`;

/** Why no systemd can be booted here, or undefined. */
export function whyNoNestedSystemd(): string | undefined {
  if (process.getuid?.() !== 0) {
    return 'booting a systemd in namespaces takes root';
  }
  if (!existsSync(SYSTEMD)) {
    return `${SYSTEMD} is not there: apt-get install systemd`;
  }
  const cgroups = cgroupDirectory();
  if (cgroups === undefined) {
    return 'no cgroup2 file system is mounted here';
  }
  try {
    const trial = join(cgroups, `outpost-trial-${process.pid}`);
    mkdirSync(trial);
    rmdirSync(trial);
  } catch (error) {
    return `no cgroup can be made in ${cgroups}: ${String(error)}`;
  }
  const trial = ['--mount', '--pid', '--fork', '--cgroup', '--uts', '--ipc', 'sh', '-c'];
  const script =
    'mount --make-rprivate / && mount -t tmpfs tmpfs /srv && mkdir /srv/a /srv/b && mount -t overlay overlay -o lowerdir=/etc,upperdir=/srv/a,workdir=/srv/b /etc';
  const run = spawnSync('unshare', [...trial, script], { encoding: 'utf8' });
  return run.status === 0
    ? undefined
    : `namespaces and mounts are not allowed here: ${run.error?.message ?? run.stderr.trim()}`;
}

/** A directory in which this process may make cgroups (v2). */
function cgroupDirectory(): string | undefined {
  const mounted = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((line) => line.includes(' - cgroup2 '));
  const mountPoint = mounted?.split(' ')[4];
  const own = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';
  return mountPoint === undefined ? undefined : join(mountPoint, own);
}

/** A machine with systemd. */
export class NestedSystemd {
  readonly directory: string;
  readonly #cgroup: string;
  #unshare: ChildProcess | undefined;
  #init = 0;

  private constructor(directory: string, cgroup: string) {
    this.directory = directory;
    this.#cgroup = cgroup;
  }

  static async boot(): Promise<NestedSystemd> {
    const directory = mkdtempSync(join(tmpdir(), 'outpost-machine-'));
    // Other users' services look for their units' files below it.
    chmodSync(directory, 0o755);
    for (const part of ['etc', 'etc.work', 'bin', 'bin.work', 'var-lib', 'units']) {
      mkdirSync(join(directory, part));
    }
    writeFileSync(join(directory, 'machine.log'), '');
    const parent = cgroupDirectory();
    assert.ok(parent !== undefined);
    const machine = new NestedSystemd(directory, join(parent, `outpost-${process.pid}`));
    mkdirSync(machine.#cgroup, { recursive: true });
    machine.#install();
    try {
      await machine.#start();
    } catch (error) {
      await machine.close();
      throw error;
    }
    return machine;
  }

  /** The packaged units as they are, and the two programs. */
  #install(): void {
    const units = join(this.directory, 'units');
    for (const name of TARGETS) {
      writeFileSync(join(units, `${name}.target`), '[Unit]\nDefaultDependencies=no\n');
    }
    const packaged = join(packageRoot(), 'systemd');
    for (const name of readdirSync(packaged).filter((file) => file.endsWith('.service'))) {
      writeFileSync(join(units, name), readFileSync(join(packaged, name)));
    }
    if (existsSync(CRON_UNIT)) {
      writeFileSync(join(units, 'cron.service'), readFileSync(CRON_UNIT));
    }
    // There is no journal inside; what services print is kept here.
    mkdirSync(join(units, 'service.d'));
    mkdirSync(join(this.directory, 'var-lib/output'));
    const output = 'append:/var/lib/output/%n.log';
    writeFileSync(
      join(units, 'service.d/output.conf'),
      `[Service]\nStandardOutput=${output}\nStandardError=${output}\n`,
    );
    const inside = CLI.replace(packageRoot(), `${INSIDE}/package`);
    for (const program of ['agent', 'hub']) {
      const path = join(this.directory, 'bin', program);
      writeFileSync(path, `#!/bin/sh\nexec ${INSIDE}/node ${inside}${program}.js "$@"\n`);
      chmodSync(path, 0o755);
    }
  }

  async #start(): Promise<void> {
    const enter = `echo $$ > ${this.#cgroup}/cgroup.procs && exec setpriv --pdeathsig=KILL -- unshare --mount --pid --fork --kill-child --cgroup --uts --ipc sh -c "$0" boot "$@"`;
    const unshare = spawn(
      'sh',
      ['-c', enter, BOOT, this.directory, packageRoot(), process.execPath],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#unshare = unshare;
    const log = (text: Buffer): void => {
      appendFileSync(join(this.directory, 'machine.log'), text);
    };
    unshare.stdout.on('data', log);
    unshare.stderr.on('data', log);
    await eventually(async () => {
      assert.equal(unshare.exitCode, null, `it did not boot: ${this.log}`);
      const children = readFileSync(
        `/proc/${unshare.pid ?? 0}/task/${unshare.pid ?? 0}/children`,
        'utf8',
      );
      this.#init = Number(children.trim().split(' ')[0]);
      assert.equal(readFileSync(`/proc/${this.#init}/comm`, 'utf8').trim(), 'systemd');
      const { stdout } = await this.run('systemctl', 'is-system-running');
      assert.match(stdout, /^(running|degraded)/, this.log);
    }, BOOT_LIMIT_MS);
  }

  /** What systemd said so far. */
  get log(): string {
    return readFileSync(join(this.directory, 'machine.log'), 'utf8');
  }

  /** The end of what services printed. */
  output(): string {
    const directory = this.path('/var/lib/output');
    return readdirSync(directory)
      .map((name) => `${name}:\n${readFileSync(join(directory, name), 'utf8').slice(-4000)}`)
      .join('\n');
  }

  /** Runs a program inside, as root. */
  async run(program: string, ...args: readonly string[]): Promise<CommandOutcome> {
    return await this.runAs('root', {}, program, ...args);
  }

  /** Runs a program inside, as a user, with nothing but this in its environment. */
  async runAs(
    user: string,
    environment: Readonly<Record<string, string>>,
    program: string,
    ...args: readonly string[]
  ): Promise<CommandOutcome> {
    const variables = Object.entries({ PATH, LANG: 'C.UTF-8', ...environment });
    const asUser = user === 'root' ? [] : ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--init-groups', '--']; // prettier-ignore
    return await runProgram('nsenter', [
      ...['-t', String(this.#init), '-m', '-p', '-C', '-u', '-i', '--'],
      ...(user === SERVICE_USER ? BOOT_ID_OF_HOST : []),
      ...asUser,
      ...['env', '-i', ...variables.map(([name, value]) => `${name}=${value}`)],
      ...[program, ...args],
    ]);
  }

  /** Runs `systemctl`, which must succeed. */
  async systemctl(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run('systemctl', ...args);
    assert.equal(code, 0, `systemctl ${args.join(' ')}: ${stderr}\n${this.output()}`);
    return stdout;
  }

  /** Properties of a unit. */
  async show(unit: string, ...names: readonly string[]): Promise<Record<string, string>> {
    const text = await this.systemctl('show', unit, ...names.map((name) => `--property=${name}`));
    const pairs = text
      .trim()
      .split('\n')
      .map((line): [string, string] => {
        const at = line.indexOf('=');
        return [line.slice(0, at), line.slice(at + 1)];
      });
    return Object.fromEntries(pairs);
  }

  /** Process id of a unit's main process, as it is seen from here. */
  async mainPid(unit: string): Promise<number> {
    const { MainPID: inside = '' } = await this.show(unit, 'MainPID');
    const found = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .find((name) => isPidInside(name, inside, this.#init));
    assert.ok(found !== undefined, `${unit} has no process ${inside}`);
    return Number(found);
  }

  /** Makes an ordinary user with a home below /var/lib. */
  async addUser(name: string): Promise<void> {
    const line = `u ${name} - "${name}" /var/lib/${name} /bin/sh`;
    const script = `echo '${line}' | systemd-sysusers - && install -d -m 0700 -o ${name} -g ${name} /var/lib/${name}`;
    const { code, stderr } = await this.run('sh', '-c', script);
    assert.equal(code, 0, stderr);
  }

  /** What a login gives a user. */
  userEnvironment(name: string): Record<string, string> {
    return { HOME: `/var/lib/${name}`, USER: name, XDG_RUNTIME_DIR: `/run/user-${name}` };
  }

  /** Starts the service manager of a user, as a login does; for one who lingers also at every boot. */
  async startUserManager(name: string, { lingers = true } = {}): Promise<void> {
    const unit = `manager-of-${name}.service`;
    const runtime = `/run/user-${name}`;
    // As user@.service, which is logind's to start.
    const text = [
      '[Service]',
      'Type=notify',
      'KillMode=mixed',
      'TimeoutStopSec=120',
      `User=${name}`,
      'Delegate=yes',
      `Environment=XDG_RUNTIME_DIR=${runtime}`,
      `ExecStartPre=+/usr/bin/install -d -m 0700 -o ${name} -g ${name} ${runtime}`,
      `ExecStart=${SYSTEMD} --user`,
      ...(lingers ? ['[Install]', 'WantedBy=multi-user.target'] : []),
    ];
    writeFileSync(join(this.directory, 'units', unit), `${text.join('\n')}\n`);
    await this.systemctl('daemon-reload');
    if (lingers) {
      mkdirSync(this.path('/var/lib/systemd/linger'), { recursive: true });
      writeFileSync(this.path(`/var/lib/systemd/linger/${name}`), '');
      await this.systemctl('enable', unit);
    }
    await this.systemctl('start', unit);
  }

  /** Takes a path of the machine to one of this host. Only for /var/lib. */
  path(inside: string): string {
    assert.ok(inside.startsWith('/var/lib/'));
    return join(this.directory, 'var-lib', inside.slice('/var/lib/'.length));
  }

  /**
   * Power is cut, and comes back: every process ends at once, and /run is empty. The boot id is another one, except for services that see
   * a /proc of their own.
   */
  async reboot(): Promise<void> {
    await this.#cutPower();
    await this.#start();
  }

  /** Every service is stopped in order, as before an orderly reboot; `reboot` follows. */
  async shutDown(): Promise<void> {
    await this.systemctl('start', 'shutdown.target');
  }

  /** Ends it and removes what it wrote. */
  async close(): Promise<void> {
    await this.#cutPower();
    removeCgroups(this.#cgroup);
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #cutPower(): Promise<void> {
    const unshare = this.#unshare;
    if (unshare?.exitCode === null && unshare.signalCode === null) {
      const ended = once(unshare, 'close');
      unshare.kill('SIGKILL');
      await ended;
      // The kernel takes the processes of a namespace down with its first one; that may take a moment.
      await eventually(() => {
        assert.equal(existsSync(`/proc/${this.#init}`), false);
      }, BOOT_LIMIT_MS);
    }
  }
}

function isPidInside(name: string, inside: string, init: number): boolean {
  try {
    const status = readFileSync(`/proc/${name}/status`, 'latin1');
    const ids = /^NSpid:\t(.*)$/m.exec(status)?.[1]?.split('\t') ?? [];
    const sameNamespace =
      statSync(`/proc/${name}/ns/pid`).ino === statSync(`/proc/${init}/ns/pid`).ino;
    return sameNamespace && ids.at(-1) === inside;
  } catch {
    // Gone meanwhile.
    return false;
  }
}

function removeCgroups(directory: string): void {
  if (!existsSync(directory)) {
    return;
  }
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) {
      removeCgroups(join(directory, entry.name));
    }
  }
  try {
    rmdirSync(directory);
  } catch (error) {
    assert.fail(`${directory}, below ${dirname(directory)}, is still in use: ${String(error)}`);
  }
}
