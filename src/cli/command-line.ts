/**
 * The frame that both commands (`agent`, `hub`) share: yargs set up once, each command's module loaded when it is used.
 *
 *   await runCommandLine({
 *     program: 'hub',
 *     summary: 'Control plane of Outpost.',
 *     commands: [{ command: 'start', summary: 'Run the hub.', load: async () => (await import('./hub/start.ts')).start }],
 *   });
 *
 *   // src/cli/hub/start.ts
 *   export const start = defineCommand(
 *     (yargs) => yargs.option('port', { type: 'number', describe: 'Port to listen on' }),
 *     async (argv) => { …; return 0; },       // the exit code; argv.json and argv.port are typed
 *   );
 *
 * A wrong command line is a UsageError (exit 64) with the help of the command beside it; `--json` works everywhere.
 */
import yargs from 'yargs';
import type { ArgumentsCamelCase, Argv } from 'yargs';

import { UsageError } from '../base/errors.ts';
import { packageVersion } from '../base/package-root.ts';
import { runCommand } from './run-command.ts';

/** Arguments that every command has. */
export interface CommonArguments {
  readonly json: boolean;
}

/** Takes the exit code of the command that ran: yargs does not hand back what a handler returned. */
type Finish = (exitCode: number) => void;

/** A command after {@link defineCommand} has put its argument types away. */
export interface Command {
  /** `finish` takes the exit code of a command further down, for groups. */
  readonly build: (parser: Argv<CommonArguments>, finish: Finish) => Argv<CommonArguments>;
  readonly run: (argv: unknown) => Promise<number>;
}

/** A command as it stands in the list of its program. */
export interface CommandEntry {
  /** yargs syntax: `start [name]`. */
  readonly command: string;
  /** One line of help; false hides the command. */
  readonly summary: string | false;
  readonly load: () => Promise<Command>;
}

/** Ties the arguments that a command declares to those that it receives. `run` returns the exit code. */
export function defineCommand<Arguments extends CommonArguments>(
  build: (parser: Argv<CommonArguments>) => Argv<Arguments>,
  run: (argv: ArgumentsCamelCase<Arguments>) => Promise<number>,
): Command {
  return {
    build: (parser) => build(parser),
    run: async (argv) => await run(argv as ArgumentsCamelCase<Arguments>),
  };
}

/** A command that only groups others: `hub client create`. */
export function defineGroup(commands: readonly CommandEntry[]): Command {
  return {
    build: (parser, finish) =>
      addCommands(parser, commands, finish).demandCommand(1, 'No command was given.'),
    run: async () => await Promise.resolve(0),
  };
}

/** What its types do not tell about yargs; our lock file has the version that it is true of. */
interface YargsInternals {
  getInternalMethods(): { getUsageInstance(): { cacheHelpMessage: () => void } };
}

/** What a program consists of. */
export interface Program {
  readonly program: string;
  readonly summary: string;
  readonly commands: readonly CommandEntry[];
  /** Text below the help. */
  readonly epilogue?: string;
}

/** Parses the command line of this process, runs the command and ends the process. */
export async function runCommandLine(
  program: Program,
  rawArguments: readonly string[] = process.argv.slice(2),
): Promise<never> {
  // Known before parsing, because a command line that does not parse is reported as JSON too.
  const json = rawArguments.includes('--json');
  return await runCommand({ json }, async () => await dispatch(program, rawArguments));
}

async function dispatch(program: Program, rawArguments: readonly string[]): Promise<number> {
  const parser = yargs([...rawArguments])
    .scriptName(program.program)
    .usage(`${program.summary}\n\nUsage: $0 <command> [options]`)
    .option('json', {
      type: 'boolean',
      default: false,
      global: true,
      describe: 'Print one JSON document instead of text',
    })
    .parserConfiguration({ 'duplicate-arguments-array': false, 'strip-aliased': true })
    .strict()
    .recommendCommands()
    .demandCommand(1, 'No command was given.')
    .help('help')
    .alias('help', 'h')
    .version(packageVersion())
    .exitProcess(false)
    .wrap(Math.min(120, terminalWidth()))
    .showHelpOnFail(false)
    .fail((message: string, error: Error | undefined) => {
      if (error !== undefined) {
        throw error;
      }
      throw new UsageError(
        `${message}\nSee: ${program.program} ${commandWord(program, rawArguments)}--help`,
      );
    });
  if (program.epilogue !== undefined) {
    parser.epilogue(program.epilogue);
  }
  let exitCode = 0;
  addCommands(parser, program.commands, (code) => {
    exitCode = code;
  });
  keepHelpUnwritten(parser);
  await parser.parseAsync();
  return exitCode;
}

/**
 * yargs writes the help of every command that it runs, in case somebody asks for it while the command runs. Nobody does, and it takes longer
 * than all else that reading a command line takes.
 */
function keepHelpUnwritten(parser: Argv<CommonArguments>): void {
  const { getInternalMethods } = parser as unknown as Partial<YargsInternals>;
  const usage = getInternalMethods?.call(parser).getUsageInstance();
  if (usage !== undefined) {
    usage.cacheHelpMessage = () => undefined;
  }
}

function addCommands(
  parser: Argv<CommonArguments>,
  commands: readonly CommandEntry[],
  finish: Finish,
): Argv<CommonArguments> {
  for (const entry of commands) {
    parser.command({
      command: entry.command,
      describe: entry.summary,
      builder: async (inner: Argv<CommonArguments>) => (await entry.load()).build(inner, finish),
      handler: async (argv) => {
        finish(await (await entry.load()).run(argv));
      },
    });
  }
  return parser;
}

function commandWord({ commands }: Program, [first]: readonly string[]): string {
  const isKnown = commands.some(({ command }) => command.split(' ')[0] === first);
  return first !== undefined && isKnown ? `${first} ` : '';
}

function terminalWidth(): number {
  return process.stdout.isTTY ? process.stdout.columns : 100;
}
