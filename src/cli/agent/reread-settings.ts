/**
 * Reads the settings of a running agent again, for SIGHUP and `agent reload`: the same files, environment and flags as at its start.
 *
 * What is applied becomes what the agent runs with; what waits for the next start is told each time until then.
 */
import type { LiveSettings, SettingChange, SettingsReading } from '../../agent/live-settings.ts';
import { ConfigError } from '../../base/errors.ts';
import type { LogControl } from '../../base/logger.ts';
import type { AgentConfig, ResolvedAgentConfig } from '../../config/agent-config.ts';
import { diffAgentConfigs } from '../../config/config-diff.ts';
import type { ConfigChange } from '../../config/config-diff.ts';
import { readTextFile } from '../../config/config-sources.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import type { SignIn } from './sign-in.ts';

/** What the agent was started with. */
export interface StartedWith {
  readonly context: EndpointContext;
  readonly flags: Readonly<Record<string, unknown>>;
  readonly resolved: ResolvedAgentConfig;
  readonly signIn: SignIn;
  readonly logControl: LogControl;
}

/** Makes the reader; it throws ConfigError with every problem, and then has changed nothing. */
export function settingsReader(started: StartedWith): () => Promise<SettingsReading> {
  const { context, flags, signIn, logControl } = started;
  let running = started.resolved;
  const { configPath } = context.directory;
  const hadSettings = hasSettings(configPath);
  return async () => {
    if (hadSettings && !hasSettings(configPath)) {
      throw settingsGone(configPath);
    }
    const next = await loadAgentConfig(context.directory, context.environment, flags);
    if (signIn.kind === 'client') {
      // One that cannot be used is told now, and not when the token has run out.
      await signIn.credentials.clientSecret();
    }
    const { applied, restartNeeded } = diffAgentConfigs(running, next);
    running = withApplied(running, next, applied);
    const { logLevel, logBytesMax } = next.config;
    if (applied.some(({ key }) => key === 'log_level' || key === 'log_bytes_max')) {
      logControl.configure({ level: logLevel, bytesMax: logBytesMax });
    }
    return {
      settings: liveSettings(next.config),
      applied: applied.map(shown),
      restartNeeded: restartNeeded.map(shown),
    };
  };
}

function hasSettings(path: string): boolean {
  return (readTextFile(path) ?? '').trim() !== '';
}

/** Whoever writes it anew in place has it empty for a moment, and defaults would lift allowed_functions and the like. */
function settingsGone(path: string): ConfigError {
  return new ConfigError('The settings cannot be read again', [
    {
      key: 'config.yaml',
      source: path,
      expected:
        'to be there and not empty, as it was when the agent started; write {} for nothing but defaults',
    },
  ]);
}

/** The settings that a running agent takes over. */
export function liveSettings(config: AgentConfig): LiveSettings {
  const { displayName, allowedFunctions, allowedSerializers, taskLogsDays, taskLogsBytesMax } =
    config;
  return {
    ...(displayName !== undefined && { displayName }),
    ...(allowedFunctions !== undefined && { allowedFunctions }),
    ...(allowedSerializers !== undefined && { allowedSerializers }),
    taskTimeoutMs: config.taskTimeoutMs,
    maxRetries: config.maxRetries,
    drainGraceMs: config.drainGraceMs,
    heartbeatPeriodMs: config.heartbeatPeriodMs,
    idleHeartbeatsSoft: config.idleHeartbeatsSoft,
    idleHeartbeatsHard: config.idleHeartbeatsHard,
    cleanupSchedule: config.cleanupSchedule,
    drainAt: config.drainAt,
    resumeAt: config.resumeAt,
    taskLogs: { days: taskLogsDays, bytesMax: taskLogsBytesMax },
  };
}

function withApplied(
  running: ResolvedAgentConfig,
  next: ResolvedAgentConfig,
  applied: readonly ConfigChange[],
): ResolvedAgentConfig {
  const keys = new Set(applied.map(({ key }) => key));
  return {
    config: running.config,
    origins: running.origins.map((origin) =>
      keys.has(origin.key)
        ? (next.origins.find(({ key }) => key === origin.key) ?? origin)
        : origin,
    ),
  };
}

function shown({ key, from, to }: ConfigChange): SettingChange {
  return { key, from: from ?? null, to: to ?? null };
}
