/**
 * The unit of one endpoint, `agent@NAME.service`: the packaged one with what this installation and this endpoint need. It stands beside
 * the packaged template and wins over it; a site's own settings belong into drop-ins (`systemctl edit`), which are left alone.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { UsageError } from '../../../base/errors.ts';
import { packageRoot } from '../../../base/package-root.ts';

/** First line of every unit that was written here; without it a file is somebody else's. */
const MARK = '# Written by agent enable-on-boot, removed by agent disable-on-boot.';
const LINGER_MARK = '# Lingering was switched on with it.';

/** What a unit is written for. */
export interface UnitSettings {
  /** `service`: the hardened one of the system; `personal`: a person's own, without limits. */
  readonly kind: 'service' | 'personal';
  /** Words that run this `agent` command. */
  readonly command: readonly string[];
  /** OUTPOST_HOME. */
  readonly home: string;
  /** Where interpreters are looked up; undefined: the service manager's. */
  readonly path?: string;
  /** Who runs it, in a unit of the system. */
  readonly user?: string;
  /** Longest time that a stop may take. */
  readonly stopTimeoutS: number;
  readonly lingers: boolean;
}

/** Name of the unit. @throws UsageError when systemd has no such names. */
export function unitName(name: string): string {
  if (!/^[A-Za-z0-9:_.-]+$/.test(name)) {
    throw new UsageError(
      `systemd has no units for an endpoint called ${name}: only letters, digits and : _ . - can stand in their names. Use --cron.`,
    );
  }
  return `agent@${name}.service`;
}

/** Text of the unit. */
export function unitText(settings: UnitSettings): string {
  const { kind, command, home, path, user, stopTimeoutS, lingers } = settings;
  const packaged = join(
    packageRoot(),
    'systemd',
    ...(kind === 'service' ? [] : ['user']),
    'agent@.service',
  );
  const environment = [
    homeLine(home),
    ...(path === undefined ? [] : [`Environment=${quoted(`PATH=${path}`)}`]),
  ];
  const lines = readFileSync(packaged, 'utf8')
    .split('\n')
    .filter((line) => !line.startsWith('#') && !line.startsWith('Environment=OUTPOST_HOME='))
    .flatMap((line): string[] => {
      if (line.startsWith('ExecStart=')) {
        return [...environment, withCommand(line, command)];
      }
      if (line.startsWith('ExecReload=')) {
        return [withCommand(line, command)];
      }
      if (line.startsWith('TimeoutStopSec=')) {
        return [`TimeoutStopSec=${stopTimeoutS}`];
      }
      if (user !== undefined && kind === 'personal') {
        return personalOfSystem(line, user);
      }
      return [line];
    });
  return [MARK, ...(lingers ? [LINGER_MARK] : []), ...lines].join('\n');
}

/** Whether a unit was written here, for an endpoint of this home: another person's may have the same name. */
export function isOurUnit(text: string, home: string): boolean {
  return text.startsWith(MARK) && text.split('\n').includes(homeLine(home));
}

/** Whether lingering was switched on with a unit that was written here. */
export function isLingeringOurs(text: string): boolean {
  return text.includes(LINGER_MARK);
}

/** A unit of the system that is like the one of the user's own manager. */
function personalOfSystem(line: string, user: string): string[] {
  switch (line) {
    case '[Service]':
      return [line, `User=${user}`, 'RuntimeDirectory=outpost/%i', 'RuntimeDirectoryMode=0700'];
    case 'StartLimitIntervalSec=0':
      return [line, 'Wants=network-online.target', 'After=network-online.target'];
    case 'WantedBy=default.target':
      return ['WantedBy=multi-user.target'];
    default:
      return [line];
  }
}

function homeLine(home: string): string {
  return `Environment=${quoted(`OUTPOST_HOME=${home}`)}`;
}

function withCommand(line: string, command: readonly string[]): string {
  // In a command line, and only there, $ begins a variable.
  const words = command.map((word) => quoted(word.replaceAll('$', '$$$$')));
  return line.replace('/usr/bin/agent', () => words.join(' '));
}

/** A word as systemd reads it back: % begins a specifier. */
function quoted(word: string): string {
  const escaped = word.replaceAll('%', '%%');
  return /^[A-Za-z0-9_./:=@%,+-]+$/.test(escaped)
    ? escaped
    : `"${escaped.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}
