/**
 * `agent logs`: the end of the log and what follows, what one task printed (`--task`), and how much is logged (`--set-level`). Lines of
 * the log are readable text, or as they are with `--json`.
 */
import { UsageError } from '../../base/errors.ts';
import type { EndpointDirectory } from '../../config/endpoint-directory.ts';
import { LOG_LEVELS } from '../../config/log-levels.ts';
import { defineCommand } from '../command-line.ts';
import { printLine, printNote } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { parseDuration, parseSince } from './log-arguments.ts';
import { formatLogLine, isWanted, tailLines } from './log-lines.ts';
import type { LogFilter } from './log-lines.ts';

const LINES_DEFAULT = 50;
/** The level that the settings say. */
const CONFIGURED = 'configured';

/** Shows the log of an endpoint. */
export const logs = defineCommand(
  (parser) =>
    withEndpointName(parser)
      .option('lines', {
        alias: 'n',
        type: 'number',
        requiresArg: true,
        describe: `How many lines to show [${LINES_DEFAULT}, or all with --since]`,
      })
      .option('follow', {
        alias: 'f',
        type: 'boolean',
        describe: 'Go on with what is logged from now on, until Ctrl-C',
      })
      .option('level', {
        choices: LOG_LEVELS,
        requiresArg: true,
        describe: 'Only lines that are at least this important',
      })
      .option('since', {
        type: 'string',
        requiresArg: true,
        describe: 'Only lines from then on: how long ago (10m, 2h, 1d), or a date',
      })
      .option('task', {
        type: 'string',
        requiresArg: true,
        describe: 'What this task printed and how it ended, instead of the log',
      })
      .option('stream', {
        choices: ['stdout', 'stderr'] as const,
        requiresArg: true,
        describe: 'With --task: only this stream',
      })
      .option('raw', {
        type: 'boolean',
        describe: 'With --task: as it was printed, also on a terminal, which it can then steer',
      })
      .option('set-level', {
        choices: [...LOG_LEVELS, CONFIGURED] as const,
        requiresArg: true,
        describe: `Have the running agent log more or less; ${CONFIGURED}: what its settings say`,
      })
      .option('for', {
        type: 'string',
        requiresArg: true,
        describe: 'With --set-level: go back after this time (30s, 10m, 1h)',
      })
      .implies('stream', 'task')
      .implies('raw', 'task')
      .implies('for', 'set-level')
      .conflicts('task', ['set-level', 'follow', 'level', 'since', 'lines'])
      .conflicts('set-level', ['follow', 'level', 'since', 'lines']),
  async (argv) => {
    const context = await openEndpoint(argv.name);
    if (argv.task !== undefined) {
      const { showTaskOutput } = await import('./task-output.ts');
      const { stream, raw, json } = argv;
      return await showTaskOutput(context, argv.task, { stream, isRaw: raw === true, json });
    }
    if (argv.setLevel !== undefined) {
      const { changeLogLevel } = await import('./log-level.ts');
      const level = argv.setLevel === CONFIGURED ? undefined : argv.setLevel;
      return await changeLogLevel(context, level, durationOf(argv.for), argv.json);
    }
    const filter: LogFilter = {
      ...(argv.level !== undefined && { level: argv.level }),
      ...(argv.since !== undefined && { sinceMs: parseSince(argv.since, Date.now()) }),
    };
    const count = linesOf(argv.lines) ?? (argv.since === undefined ? LINES_DEFAULT : Infinity);
    const follow = argv.follow === true;
    await showLog(context.directory, { filter, count, follow, json: argv.json });
    return 0;
  },
);

async function showLog(
  { logPath, name }: EndpointDirectory,
  show: {
    readonly filter: LogFilter;
    readonly count: number;
    readonly follow: boolean;
    readonly json: boolean;
  },
): Promise<void> {
  const print = (line: string): void => {
    printLine(show.json ? line : formatLogLine(line));
  };
  const tail = await tailLines(logPath, show.count, show.filter);
  if (tail === undefined && !show.follow) {
    printNote(
      `There is no log at ${logPath}: the endpoint has not been started in the background. ` +
        `In the foreground it logs to stdout, and under systemd to the journal: journalctl -u agent@${name}`,
    );
    return;
  }
  tail?.lines.forEach(print);
  if (show.follow) {
    const { followLog } = await import('./follow-log.ts');
    const interrupted = new AbortController();
    process.once('SIGINT', () => {
      interrupted.abort();
    });
    await followLog(logPath, tail?.endOffset ?? 0, interrupted.signal, (line) => {
      if (isWanted(line, show.filter)) {
        print(line);
      }
    });
  }
}

function linesOf(value: number | undefined): number | undefined {
  if (value !== undefined && !(Number.isInteger(value) && value >= 0)) {
    throw new UsageError('--lines must be a whole number, 0 or more.');
  }
  return value;
}

function durationOf(text: string | undefined): number | undefined {
  const ms = text === undefined ? undefined : parseDuration(text);
  if (text !== undefined && ms === undefined) {
    throw new UsageError(`--for ${text} is no length of time: give for instance 30s, 10m or 1h.`);
  }
  return ms;
}
