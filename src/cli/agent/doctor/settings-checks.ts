/** The settings, and who can read and write the files of the endpoint. */
import type { Stats } from 'node:fs';
import { access, constants, lstat, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

import { errorCode, errorText } from '../../../base/errors.ts';
import { controlPath } from '../presence.ts';
import { EXIT, failed, ok, warning } from './check.ts';
import type { Check, Finding } from './check.ts';
import type { Subject } from './subject.ts';

/** The checks. */
export const SETTINGS_CHECKS: readonly Check[] = [
  {
    name: 'settings',
    remedy: 'See: agent config validate NAME',
    run: settingsFinding,
  },
  {
    name: 'permissions',
    remedy: 'See who owns the directory of the endpoint, and with which mode: ls -ld',
    run: permissionsFinding,
  },
  {
    name: 'control-socket',
    remedy: 'See who owns the directory of the control socket: ls -ld',
    run: controlSocketFinding,
  },
  {
    name: 'working-directory',
    settings: ['working_dir'],
    remedy: 'Set working_dir to a directory that you can write',
    run: workingDirectoryFinding,
  },
];

function settingsFinding({ context, settings }: Subject): Finding {
  const { error, config, origins } = settings;
  const { name, configPath } = context.directory;
  if (error !== undefined) {
    return failed(
      error.exitCode,
      error.message,
      `Correct each where it stands; check with: agent config validate ${name}`,
      {
        problems: error.problems.map((problem) => ({ ...problem })),
      },
    );
  }
  const given = origins.filter(({ isDefault }) => !isDefault).length;
  const found = `${given} of ${origins.length} settings are given, none is wrong`;
  const [notice] = config.notices;
  return notice === undefined
    ? ok(found, { given })
    : warning(notice, `Change it in ${configPath}, or leave it so on purpose`, {
        given,
        notices: config.notices,
      });
}

/** What is wrong with who may do what, and how it is mended. */
interface Fault {
  readonly what: string;
  readonly remedy: string;
  readonly isFatal: boolean;
}

async function permissionsFinding({ context }: Subject): Promise<Finding> {
  const { home, directory } = context;
  const faults = (
    await Promise.all([
      faultOf(home, 0o022, true),
      faultOf(directory.path, 0o022, true),
      faultOf(directory.dotenvPath, 0o077, true),
      faultOf(directory.registrationPath, 0o022, true),
      faultOf(directory.logsPath, 0o022, false),
    ])
  ).flat();
  const [first] = faults;
  if (first === undefined) {
    return ok(`${directory.path} is yours alone to change`, { path: directory.path });
  }
  const what = faults.map((fault) => fault.what).join('; ');
  const remedy = faults.map((fault) => fault.remedy).join('; ');
  return faults.some(({ isFatal }) => isFatal)
    ? failed(EXIT.settings, what, remedy)
    : warning(what, remedy);
}

async function statusOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

async function faultOf(path: string, forbidden: number, isFatal: boolean): Promise<Fault[]> {
  const status = await statusOf(path);
  if (status === undefined) {
    return [];
  }
  const faults: Fault[] = [];
  const mode = status.mode & 0o777;
  if ((mode & forbidden) !== 0) {
    const who = (mode & forbidden & 0o022) === 0 ? 'read' : 'changed';
    const right = status.isDirectory() ? '700' : '600';
    faults.push({
      what: `${path} can be ${who} by others (mode ${mode.toString(8).padStart(4, '0')})`,
      remedy: `chmod ${right} ${path}`,
      isFatal,
    });
  }
  const uid = process.getuid?.() ?? 0;
  if (status.uid !== uid && uid !== 0) {
    faults.push({
      what: `${path} belongs to user ${status.uid}, and you are ${uid}`,
      remedy: `Run this as its owner, or as root: chown -R ${uid} ${path}`,
      isFatal: true,
    });
  }
  return faults;
}

async function controlSocketFinding({ context }: Subject): Promise<Finding> {
  const path = controlPath(context);
  const directory = dirname(path);
  const uid = process.getuid?.() ?? 0;
  try {
    const status = await lstat(directory);
    const mode = status.mode & 0o777;
    if (!status.isDirectory() || status.uid !== uid || (mode & 0o077) !== 0) {
      return failed(
        EXIT.settings,
        `${directory}, where the control socket lies, is not a directory of your own with mode 0700 (it is user ${status.uid}’s, mode ${mode.toString(8).padStart(4, '0')})`,
        status.uid === uid
          ? `chmod 700 ${directory}`
          : `Have the administrator remove ${directory}, or set XDG_RUNTIME_DIR to a directory of yours`,
        { path },
      );
    }
    return ok(`its directory ${directory} is yours alone`, { path });
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') {
      throw error;
    }
  }
  return ok(`${directory} is made by the first start`, { path });
}

async function workingDirectoryFinding({ settings }: Subject): Promise<Finding> {
  const { workingDir, workerHost } = settings.config;
  if (workerHost === 'unit') {
    return ok(`${workingDir} is the worker unit’s own affair`, { path: workingDir });
  }
  try {
    await access(workingDir, constants.W_OK | constants.X_OK);
  } catch (error) {
    return errorCode(error) === 'ENOENT'
      ? ok(`${workingDir} is made by the first start`, { path: workingDir })
      : failed(
          EXIT.settings,
          `tasks cannot work in ${workingDir}: ${errorText(error)}`,
          'Set working_dir to a directory that you can write',
          { path: workingDir },
        );
  }
  return ok(`tasks run in ${workingDir}`, { path: workingDir });
}
