/** `agent reload`. */
import type { ReloadReport, SettingChange } from '../../agent/live-settings.ts';
import { ConfigError } from '../../base/errors.ts';
import { defineCommand } from '../command-line.ts';
import { printFields, printJson, printLine } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { askAgent, findPresence, requireRunning } from './presence.ts';
import { userName } from './user-name.ts';

const RELOAD_LIMIT_MS = 30_000;

/** Has a running agent read its settings again, as SIGHUP does, and says what came of it. */
export const reload = defineCommand(
  (parser) => withEndpointName(parser),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    const { name } = context.directory;
    const presence = await findPresence(context.directory);
    if (presence.kind === 'elsewhere') {
      const { outcomeElsewhere, reachElsewhere, tellElsewhere } = await import('./elsewhere.ts');
      const there = await reachElsewhere(context, presence.holder);
      const words = { by: userName() };
      await outcomeElsewhere(there, await tellElsewhere(there, 'reload', words));
      const { host } = presence.holder;
      if (argv.json) {
        printJson({ name, ok: true, host });
      } else {
        printLine(
          `Endpoint ${name} on ${host} has read its settings again; what has changed stands in its log.`,
        );
      }
      return 0;
    }
    await requireRunning(context.directory);
    const report = (await askAgent(context, 'reload', RELOAD_LIMIT_MS)) as ReloadReport;
    if (!report.ok) {
      const what = 'The settings are wrong; the agent goes on with those from before:';
      throw report.problems.length > 0
        ? new ConfigError(what, report.problems)
        : new ConfigError(`${what}\n  ${report.error ?? 'its log says more'}`);
    }
    if (argv.json) {
      printJson({ name, ...report });
      return 0;
    }
    const { applied, restart_needed: restartNeeded } = report;
    if (applied.length + restartNeeded.length === 0) {
      printLine(`Endpoint ${name}: no setting has changed.`);
      return 0;
    }
    if (applied.length > 0) {
      printLine('Applied:');
      printFields(applied.map(changeText));
    }
    if (restartNeeded.length > 0) {
      printLine(`Waiting for its next start (agent restart ${name}):`);
      printFields(restartNeeded.map(changeText));
    }
    return 0;
  },
);

function changeText({ key, from, to }: SettingChange): [string, string] {
  return [`  ${key}`, `${valueText(from)} → ${valueText(to)}`];
}

function valueText(value: unknown): string {
  if (value === null) {
    return 'not set';
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}
