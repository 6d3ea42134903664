/**
 * What the agent takes from the environment besides its settings: where sockets lie, and what workers may inherit.
 *
 * Workers get a short list of variables and nothing else, so that no secret, no notification socket and no setting of ours
 * reaches them by inheritance.
 */
import type { Environment } from './config-sources.ts';
import { CREDENTIAL_VARIABLES } from './credentials.ts';
import { NOTIFICATION_VARIABLES, serviceRuntimeDirectory } from './service-environment.ts';

const INHERITED_NAMES: ReadonlySet<string> = new Set([
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'SHELL',
  'LANG',
  'LANGUAGE',
  'TZ',
  'TMPDIR',
  'TERM',
  'LD_LIBRARY_PATH',
  'SCRATCH',
  'WORK',
  'PROJECT',
]);

/** Locale, and what batch systems and module systems set for the software that users load. */
const INHERITED_PREFIXES = ['LC_', 'SLURM_', 'PBS_', 'CUDA_', 'ROCR_', 'OMP_', 'MODULE', 'LMOD_'];

/** Variables that look harmless by their prefix and are not. */
const WITHHELD_PATTERN = /TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE_?KEY|JWT/i;

/** The environment that workers inherit. */
export function workerBaseEnvironment(environment: Environment): Record<string, string> {
  const inherited: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    const isListed =
      INHERITED_NAMES.has(name) || INHERITED_PREFIXES.some((prefix) => name.startsWith(prefix));
    if (value !== undefined && isListed && !WITHHELD_PATTERN.test(name)) {
      inherited[name] = value;
    }
  }
  return inherited;
}

/** The environment of a background agent: all but the credentials, handed over on a pipe, and what a service manager meant for us. */
export function backgroundEnvironment(environment: Environment): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    const isWithheld = CREDENTIAL_VARIABLES.includes(name) || NOTIFICATION_VARIABLES.includes(name);
    if (value !== undefined && !isWithheld) {
      kept[name] = value;
    }
  }
  return kept;
}

/** Directory for sockets of this login, or of the system service that runs this endpoint, if there is one. */
export function runtimeDirectory(environment: Environment, name: string): string | undefined {
  const ofService = serviceRuntimeDirectory(name);
  const directory = environment['XDG_RUNTIME_DIR'];
  if (directory === undefined || directory === '') {
    // Any other was made for somebody else who has started us, and commands would not look there.
    return environment['RUNTIME_DIRECTORY'] === ofService ? ofService : undefined;
  }
  return directory;
}
