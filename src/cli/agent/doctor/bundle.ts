/**
 * The archive for a report: what doctor found, settings and where they come from, the end of the log, status, what the journal holds
 * by number, and facts about the machine. Never a secret, an argument, a result or what a function printed: bodies are not read, and
 * everything goes through {@link Redaction}. The owner is still asked to look at it before sending it.
 */
import { open, readFile, realpath, statfs, writeFile } from 'node:fs/promises';
import { cpus, freemem, hostname, loadavg, release, totalmem, version } from 'node:os';
import { basename, join } from 'node:path';

import { thisProcess } from '../../../agent/agent-lock.ts';
import { inspectJournal } from '../../../agent/journal/inspect.ts';
import { SECRET_PLACEHOLDER } from '../../../base/blank-secrets.ts';
import { UnavailableError, errorCode, errorText } from '../../../base/errors.ts';
import { packageVersion } from '../../../base/package-root.ts';
import { CREDENTIAL_VARIABLES } from '../../../config/credentials.ts';
import { readDotenvFile } from '../../../config/dotenv-file.ts';
import { AGENT_OPTIONS } from '../../../config/options.ts';
import { tailLines } from '../log-lines.ts';
import { mountOf } from './mounts.ts';
import { Redaction } from './redaction.ts';
import type { Subject } from './subject.ts';
import { packArchive } from './tar.ts';

const LOG_LINES = 1_000;
const STDERR_BYTES = 16 * 1024;
const JOURNAL_TASKS_MAX = 200;
/** Of a variable only that it is set. */
const SET = '[set]';

const README = `What "agent doctor --bundle" found, for whoever helps with this endpoint.

doctor.json       every check, its verdict and its remedy
config.json       settings in force and where each comes from; secrets and the values of "environment" are left out
status.json       what the agent says of itself
journal.json      how many tasks are in which state, without functions, arguments and results
environment.json  versions, limits, mounts, names of variables
agent.log         the last ${LOG_LINES} lines of the log
stderr.log        the end of what the background process wrote on stderr

Secrets, tokens, long random texts and what functions printed were taken out. Look through it all the same before you send it.
`;

/** Writes the archive. `report` is what doctor says with --json. @throws UnavailableError when it cannot be written. */
export async function writeBundle(path: string, subject: Subject, report: unknown): Promise<void> {
  const redaction = new Redaction(await knownSecrets(subject));
  const json = (value: unknown): string =>
    `${JSON.stringify(redaction.document(value), undefined, 2)}\n`;
  const { directory } = subject.context;
  const named = basename(path)
    .replace(/(\.tar)?\.t?gz$/, '')
    .slice(0, 60);
  const prefix = named === '' ? 'doctor' : named;
  const files = [
    { name: 'README.txt', text: README },
    { name: 'doctor.json', text: json(report) },
    { name: 'config.json', text: json(shownSettings(subject)) },
    { name: 'status.json', text: json(await subject.status()) },
    { name: 'journal.json', text: json(await journalSummary(directory.path)) },
    { name: 'environment.json', text: json(await environmentFacts(subject)) },
    { name: 'agent.log', text: await logText(directory.logPath, redaction) },
    { name: 'stderr.log', text: redaction.text(await endOf(directory.stderrPath, STDERR_BYTES)) },
  ];
  const archive = packArchive(
    files.map(({ name, text }) => ({ name: `${prefix}/${name}`, text })),
    Date.now(),
  );
  try {
    await writeFile(path, archive, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    const why =
      errorCode(error) === 'EEXIST' ? 'it is there already; name another file' : errorText(error);
    throw new UnavailableError('START_FAILED', `The archive ${path} cannot be written: ${why}`, {
      cause: error,
    });
  }
}

/** Secrets that are known by their value, wherever they may stand. */
async function knownSecrets({ context, settings, signIn, broker }: Subject): Promise<string[]> {
  const { environment, directory } = context;
  const known: (string | undefined)[] = [
    ...CREDENTIAL_VARIABLES.filter((name) => name.endsWith('SECRET')).map(
      (name) => environment[name],
    ),
    // Programs of the operator get their own secrets through it.
    ...Object.values(settings.config.environment),
  ];
  // Without credentials there is none to be found; why that is so stands in the report.
  const found = await signIn().catch(() => undefined);
  if (found?.kind === 'client') {
    const secret = await found.credentials.clientSecret().catch(() => undefined);
    known.push(secret?.reveal());
  }
  const access = await broker().catch(() => undefined);
  known.push(access === undefined ? undefined : decodeURIComponent(new URL(access.url).password));
  const dotenv = await readDotenvFile(directory.dotenvPath).catch(() => undefined);
  const harmless = new Set(
    AGENT_OPTIONS.filter((option) => !option.secret).map((option) => option.environment),
  );
  for (const [name, value] of Object.entries(dotenv ?? {})) {
    // Of credentials the id is none, and other programs may have theirs in the same file.
    if (!harmless.has(name) && !name.endsWith('CLIENT_ID')) {
      known.push(value);
    }
  }
  return known.filter((text) => text !== undefined);
}

function shownSettings({ settings }: Subject): unknown {
  const { origins, error } = settings;
  const rows = origins.map(({ key, value, source }) => {
    const isMap = typeof value === 'object' && !Array.isArray(value);
    const shown: unknown = isMap
      ? Object.fromEntries(Object.keys(value).map((name) => [name, SECRET_PLACEHOLDER]))
      : (value ?? null);
    return [key, { value: shown, source }] as const;
  });
  const problems = (error?.problems ?? []).map(({ key, source, expected }) => ({
    key,
    source,
    expected,
  }));
  return { settings: Object.fromEntries(rows), problems };
}

async function journalSummary(directory: string): Promise<unknown> {
  const { host, boot_id: bootId } = thisProcess();
  const { tasks, ...rest } = await inspectJournal(join(directory, 'journal'), host, bootId);
  return {
    ...rest,
    task_count: tasks.length,
    tasks: tasks
      .slice(0, JOURNAL_TASKS_MAX)
      .map(({ task_id: taskId, state, begun, attempts, bytes, language }) => ({
        task_id: taskId,
        state,
        begun,
        attempts,
        bytes,
        language,
      })),
  };
}

async function environmentFacts({ context }: Subject): Promise<unknown> {
  const { environment, directory } = context;
  const path = await realpath(directory.path);
  const files = ['/proc/self/limits', '/proc/self/cgroup', '/etc/os-release', '/proc/uptime'];
  const texts = await Promise.all(
    files.map(async (file) => [file, await readFile(file, 'utf8').catch(() => null)] as const),
  );
  const { bavail, bsize, blocks, files: inodes, ffree, type } = await statfs(path);
  const names = Object.keys(environment).filter((name) =>
    /^(OUTPOST_|GLOBUS_|FUNCX_|XDG_|SLURM_|PBS_|https?_proxy$|no_proxy$)/i.test(name),
  );
  return {
    outpost: packageVersion(),
    node: process.versions,
    system: `${process.platform} ${release()} ${process.arch}, ${version()}`,
    host: hostname(),
    processors: cpus().length,
    load: loadavg(),
    memory: { total_bytes: totalmem(), free_bytes: freemem() },
    user: { uid: process.getuid?.() ?? null, gid: process.getgid?.() ?? null },
    state_directory: {
      path,
      mount: (await mountOf(path)) ?? null,
      type: `0x${type.toString(16)}`,
      bytes: { free: bavail * bsize, total: blocks * bsize },
      inodes: { free: ffree, total: inodes },
    },
    variables: Object.fromEntries(names.map((name) => [name, SET])),
    files: Object.fromEntries(texts),
  };
}

async function logText(path: string, redaction: Redaction): Promise<string> {
  const tail = await tailLines(path, LOG_LINES);
  return (tail?.lines ?? []).map((line) => `${redaction.line(line)}\n`).join('');
}

async function endOf(path: string, bytesMax: number): Promise<string> {
  try {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      const length = Math.min(size, bytesMax);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return '';
    }
    throw error;
  }
}
