/** The machine: Node, memory, its clock, what starts the endpoint with it. */
import { existsSync, readFileSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { thisProcess } from '../../../agent/agent-lock.ts';
import { errorCode } from '../../../base/errors.ts';
import { packageRoot, packageVersion } from '../../../base/package-root.ts';
import { bytesText, durationText } from '../../output.ts';
import { disableSteps } from '../boot/methods.ts';
import { hasSystemd, isLingering } from '../boot/programs.ts';
import { EXIT, failed, ok, warning } from './check.ts';
import type { Check, Finding } from './check.ts';
import type { Subject } from './subject.ts';

const MIB = 1024 * 1024;
/** The agent itself; a thread or an interpreter that has loaded little. */
const NEEDED_BYTES = { agent: 100 * MIB, thread: 40 * MIB, interpreter: 25 * MIB };
/** A file from so far in the future was not written a moment ago by a clock that is a little off. */
const FUTURE_NOTICE_MS = 60_000;

/** The checks. */
export const MACHINE_CHECKS: readonly Check[] = [
  { name: 'node', remedy: 'Install Node 20.19 or newer', run: nodeFinding },
  {
    name: 'memory',
    settings: ['javascript_threads', 'python_interpreters'],
    remedy: 'See: free -h',
    run: memoryFinding,
  },
  { name: 'clock', remedy: 'See: timedatectl', run: clockFinding },
  { name: 'boot', remedy: 'See: agent enable-on-boot NAME --dry-run', run: bootFinding },
];

function nodeFinding(): Finding {
  const text = readFileSync(join(packageRoot(), 'package.json'), 'utf8');
  const wanted = (JSON.parse(text) as { engines?: { node?: string } }).engines?.node ?? '>=20';
  const needed = wanted.replace(/^\D+/, '');
  const { node } = process.versions;
  const details = { node, needed, outpost: packageVersion(), executable: process.execPath };
  return isAtLeast(node, needed)
    ? ok(`Node ${node}; ${needed} or newer is needed`, details)
    : failed(
        EXIT.settings,
        `Node ${node} is too old: ${needed} or newer is needed`,
        `Install Node ${needed} or newer, for instance from https://nodejs.org, and put it first on PATH`,
        details,
      );
}

function isAtLeast(version: string, needed: string): boolean {
  const [have, want] = [version, needed].map((text) => text.split('.').map(Number));
  for (const [index, part] of (want ?? []).entries()) {
    const mine = have?.[index] ?? 0;
    if (mine !== part) {
      return mine > part;
    }
  }
  return true;
}

async function memoryFinding({ settings }: Subject): Promise<Finding> {
  const text = await readFile('/proc/meminfo', 'utf8');
  const bytesOf = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024;
  const [available, total] = [bytesOf('MemAvailable'), bytesOf('MemTotal')];
  const { javascriptThreads, pythonInterpreters } = settings.config;
  const needed =
    NEEDED_BYTES.agent +
    javascriptThreads * NEEDED_BYTES.thread +
    pythonInterpreters * NEEDED_BYTES.interpreter;
  const details = { available_bytes: available, total_bytes: total, needed_bytes: needed };
  const found = `${bytesText(available)} of ${bytesText(total)} available`;
  return available >= needed
    ? ok(found, details)
    : warning(
        `${found}; agent and idle workers need about ${bytesText(needed)}`,
        'Lower javascript_threads and python_interpreters, or end what uses the memory',
        details,
      );
}

async function clockFinding({ context }: Subject): Promise<Finding> {
  const nowMs = Date.now();
  const { directory } = context;
  const [bootText = '0'] = (await readFile('/proc/uptime', 'utf8')).split(' ');
  // /proc/uptime goes on while the machine sleeps, the monotonic clock does not.
  const sleptS = Number(bootText) - Number(process.hrtime.bigint() / 1_000_000n) / 1000;
  const details = {
    now: new Date(nowMs).toISOString(),
    uptime_s: Number(bootText),
    slept_s: Math.max(0, Math.round(sleptS)),
    boot_id: thisProcess().boot_id,
  };
  const newest = await Promise.all(
    [
      directory.registrationPath,
      directory.logPath,
      join(directory.path, 'agent.lock'),
      join(packageRoot(), 'package.json'),
    ].map(async (path) => ({ path, ms: await changedMs(path) })),
  );
  const future = newest.find(({ ms }) => ms > nowMs + FUTURE_NOTICE_MS);
  if (future !== undefined) {
    return warning(
      `${future.path} is from ${durationText(future.ms - nowMs)} in the future: the clock was set back, or the machine that wrote it has another time`,
      'Have the clock set by NTP; see: timedatectl',
      details,
    );
  }
  const slept =
    sleptS > 60
      ? `; it slept for ${durationText(sleptS * 1000)} of that, during which an endpoint is offline`
      : '';
  return ok(
    `booted ${durationText(Number(bootText) * 1000)} ago, clock plausible${slept}`,
    details,
  );
}

async function changedMs(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return 0;
    }
    throw error;
  }
}

async function bootFinding({ context }: Subject): Promise<Finding> {
  const { name } = context.directory;
  const methods = (await disableSteps(context)).map(({ method }) => method);
  // As root, from the package or by hand: a unit that agent enable-on-boot did not write.
  const isInstance = existsSync(
    `/etc/systemd/system/multi-user.target.wants/agent@${name}.service`,
  );
  const systemd = hasSystemd();
  const lingers = systemd && isLingering();
  const details = { methods, instance: isInstance, systemd, lingers };
  const [method] = methods;
  if (method === 'user' && !lingers) {
    return warning(
      'a unit of your own starts the endpoint, and only while you are logged in',
      'loginctl enable-linger',
      details,
    );
  }
  if (method === undefined && !isInstance) {
    return ok(
      `nothing starts the endpoint with the machine; agent enable-on-boot ${name} would`,
      details,
    );
  }
  const what = {
    system: 'a unit of the system',
    user: 'a unit of your own, from boot on',
    cron: 'a line in your crontab',
  };
  return ok(
    `${method === undefined ? `agent@${name}.service` : what[method]} starts the endpoint with the machine`,
    details,
  );
}
