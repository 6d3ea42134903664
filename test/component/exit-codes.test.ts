/**
 * Exit codes and `--json` of every command of `agent` and `hub`, as docs/errors.md has them. The commands are those that `--help` names,
 * so that a new one is looked at too.
 *
 * Every command runs with a stdin that stays open and says nothing: one that waits for input without a terminal does not end, and fails.
 * They run in a few processes (command-lines.ts); agent-command.test.ts and the integration suite run them as processes of their own.
 */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { freePort } from '../support/free-port.ts';
import type { CommandOutcome } from '../support/stack.ts';

type Program = 'agent' | 'hub';

/** A command line, the exit code that it must have, and the code of the error in its document, unless there is none. */
type Case = readonly [line: string, exit: number, error?: string];

interface Failure {
  readonly code: string;
  readonly message: string;
  readonly exitCode: number;
  readonly problems?: readonly { readonly key: string; readonly source: string }[];
}

const CLI = fileURLToPath(new URL('../../src/cli/', import.meta.url));
const RUNNER = fileURLToPath(new URL('../support/command-lines.js', import.meta.url));
const ID = '0f0e0d0c-0000-4000-8000-000000000001';
const LIMIT_MS = 60_000;
/** As many as most machines have cores. */
const AT_ONCE = 2;

describe('every command', function () {
  this.timeout(240_000);
  let root: string;
  let environment: NodeJS.ProcessEnv;
  /** Command lines of all commands without their arguments. */
  const commands: Record<Program, string[]> = { agent: [], hub: [] };
  const helpOf = new Map<string, string>();
  const runners: ChildProcess[] = [];
  const idle: ChildProcess[] = [];

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'outpost-exit-'));
    environment = {
      PATH: process.env['PATH'],
      HOME: root,
      OUTPOST_HOME: join(root, 'state'),
      // Short: the path of a Unix socket ends at 107 bytes.
      XDG_RUNTIME_DIR: root,
      OUTPOST_HUB_PORT: String(await freePort()),
    };
    const nowhere = `http://127.0.0.1:${await freePort()}`;
    await endpoint('one', `hub_url: ${nowhere}\npython: /usr/bin/python3\n`, true);
    await endpoint('wrong', 'reserv: 1\nhub_url: nowhere\nmax_retries: -1\n', true);
    await endpoint('nobody', `hub_url: ${nowhere}\npython: /usr/bin/python3\n`, false);
    await Promise.all([discover('agent'), discover('hub')]);
  });

  after(async () => {
    await Promise.all(
      runners.map(async (runner) => {
        const ended = once(runner, 'exit');
        runner.kill('SIGKILL');
        await ended;
      }),
    );
    await rm(root, { recursive: true });
  });

  async function endpoint(name: string, config: string, hasSecret: boolean): Promise<void> {
    const directory = join(root, 'state', name);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writeFile(join(directory, 'config.yaml'), config, { mode: 0o600 });
    if (hasSecret) {
      const secret = `OUTPOST_CLIENT_ID=${ID}\nOUTPOST_CLIENT_SECRET=hunter2-hunter2\n`;
      await writeFile(join(directory, '.env'), secret, { mode: 0o600 });
    }
  }

  /** Runs a command to its end, without a terminal and without an end of its input. */
  async function run(
    line: string,
    env: Readonly<Record<string, string>> = {},
  ): Promise<CommandOutcome> {
    const child = idle.pop() ?? startRunner();
    const [program = '', ...args] = line.split(' ');
    const replied = once(child, 'message', { signal: AbortSignal.timeout(LIMIT_MS) });
    child.send({ program: join(CLI, `${program}.js`), args, environment: env });
    try {
      const [outcome] = (await replied) as [CommandOutcome];
      idle.push(child);
      return outcome;
    } catch (error) {
      return assert.fail(`${line} did not end: ${String(error)}`);
    }
  }

  function startRunner(): ChildProcess {
    const child = fork(RUNNER, [], { env: environment, cwd: root, stdio: ['pipe', 'pipe', 'inherit', 'ipc'] }); // prettier-ignore
    runners.push(child);
    return child;
  }

  async function forAll<T>(all: readonly T[], look: (one: T) => Promise<void>): Promise<void> {
    const rest = [...all];
    const failures: string[] = [];
    const next = async (): Promise<void> => {
      for (let one = rest.shift(); one !== undefined; one = rest.shift()) {
        try {
          await look(one);
        } catch (error) {
          failures.push(error instanceof Error ? error.message : String(error));
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, next));
    assert.equal(failures.length, 0, failures.join('\n\n'));
  }

  /** Walks through the help of a program and of its groups of commands. */
  async function discover(program: Program): Promise<void> {
    const groups: string[] = [program];
    for (let group = groups.shift(); group !== undefined; group = groups.shift()) {
      const { stdout } = await run(`${group} --help`);
      helpOf.set(group, stdout);
      const listed = new RegExp(`^  ${group} ([a-z-]+)(?: [[<].*?[\\]>])?  +\\S`, 'gm');
      const found = [...stdout.matchAll(listed)].map(([, word = '']) => `${group} ${word}`);
      assert.ok(found.length > 1, stdout);
      await forAll(found, async (line) => {
        const outcome = await run(`${line} --help`);
        assert.equal(outcome.code, 0, `${line} --help: ${outcome.stderr}`);
        helpOf.set(line, outcome.stdout);
        if (outcome.stdout.includes('\nCommands:\n')) {
          groups.push(line);
        } else {
          commands[program].push(line);
        }
      });
    }
  }

  /** What a command with `--json` says when it fails. */
  function failureIn(line: string, { code, stdout, stderr }: CommandOutcome): Failure {
    const { error } = document(line, { code, stdout, stderr }) as { error?: Failure };
    assert.ok(error !== undefined, `${line} has no error: ${stdout}`);
    assert.equal(error.exitCode, code, line);
    assert.ok(error.message.length > 10, line);
    assert.ok(stderr.includes(error.message.split('\n')[0] ?? ''), `${line}: ${stderr}`);
    return error;
  }

  function document(line: string, { stdout, stderr }: CommandOutcome): Record<string, unknown> {
    try {
      return JSON.parse(stdout) as Record<string, unknown>;
    } catch {
      return assert.fail(`${line} does not print one JSON document: ${stdout}\n${stderr}`);
    }
  }

  async function check(
    [line, exit, code]: Case,
    env: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const outcome = await run(`${line} --json`, env);
    assert.equal(outcome.code, exit, `${line}: ${outcome.stdout}${outcome.stderr}`);
    if (code === undefined) {
      assert.ok(!('error' in document(line, outcome)), line);
    } else {
      assert.equal(failureIn(line, outcome).code, code, line);
    }
  }

  it('has help: what it does, and each option with what it is and its unit, without colours', () => {
    assert.ok(commands.agent.length >= 24 && commands.hub.length >= 15);
    for (const [line, help] of helpOf) {
      assert.ok(!help.includes('\u001B'), line);
      assert.ok(
        help.split('\n').every((text) => text.length <= 100),
        line,
      );
      const isProgram = !line.includes(' ');
      const [, , summary = ''] = help.split('\n');
      assert.match(isProgram ? help : summary, /^\S.{10,}/, `${line} has no summary`);
      assert.match(help, /^ +--json +Print one JSON document/m, line);
      // Options begin a line; what follows until the next one is about them.
      for (const option of help.split(/\n(?= +(?:-\w, )?--)/).slice(1)) {
        assert.match(option, /--[a-z-]+\s+\S+ \S+/, `${line}: ${option}`);
        if (option.includes('[number]')) {
          assert.match(option, /second|bytes|MiB|how many|port/i, `${line}, without a unit: ${option}`); // prettier-ignore
        }
      }
    }
  });

  it('refuses an option that it does not know with 64, and says where help is', async () => {
    await forAll([...commands.agent, ...commands.hub], async (line) => {
      const outcome = await run(`${line} --bogus --json`);
      assert.equal(outcome.code, 64, `${line}: ${outcome.stdout}${outcome.stderr}`);
      const { code, message } = failureIn(line, outcome);
      assert.equal(code, 'USAGE', line);
      assert.match(message, new RegExp(`See: ${line.split(' ').slice(0, 2).join(' ')}.*--help`));
    });
  });

  it('does not know an endpoint that is not there: 69', async () => {
    // They make one, or are about all of them; a worker host may not look into the directory of its endpoint.
    const others = ['agent worker', 'agent configure', 'agent config reference', 'agent list', 'agent login', 'agent logout', 'agent version']; // prettier-ignore
    const named = commands.agent.filter((line) => !others.includes(line));
    await forAll(named, async (line) => {
      await check([`${line} nope`, 69, 'ENDPOINT_NOT_FOUND']);
    });
  });

  it('about an endpoint that does not run: what needs its agent says so with 69', async () => {
    const cases: Case[] = [
      ['agent list', 0],
      ['agent version', 0],
      ['agent status one', 0],
      ['agent stop one', 0],
      ['agent journal one', 0],
      ['agent config show one --origin', 0],
      ['agent config validate one', 0],
      ['agent config reference', 0],
      ['agent enable-on-boot one --cron --dry-run', 0],
      ['agent tasks one', 69, 'NOT_RUNNING'],
      ['agent pause one', 69, 'NOT_RUNNING'],
      ['agent drain one', 69, 'NOT_RUNNING'],
      ['agent resume one', 69, 'NOT_RUNNING'],
      ['agent reload one', 69, 'NOT_RUNNING'],
      ['agent logs one --set-level debug', 69, 'NOT_RUNNING'],
      [`agent logs one --task ${ID}`, 69, 'TASK_NOT_FOUND'],
      ['agent logs one --task first', 64, 'USAGE'],
      ['agent start one --timeout 0', 64, 'USAGE'],
      ['agent drain one --timeout soon', 64, 'USAGE'],
      ['agent delete one', 64, 'USAGE'],
      ['agent configure one', 73, 'ENDPOINT_EXISTS'],
      ['agent configure new --client-id x', 64, 'USAGE'],
      [`agent configure new --client-id ${ID} --client-secret-file none`, 78, 'CONFIG_INVALID'],
    ];
    await forAll(cases, async (each) => {
      await check(each);
    });
  });

  it('about wrong settings: what needs them names each problem with 78, the others work', async () => {
    const needing = ['start', 'restart', 'ensure', 'config show', 'config validate', 'whoami'];
    await forAll(needing, async (verb) => {
      const line = `agent ${verb} wrong --json`;
      const outcome = await run(line);
      assert.equal(outcome.code, 78, `${line}: ${outcome.stdout}${outcome.stderr}`);
      const { code, problems = [] } = failureIn(line, outcome);
      assert.equal(code, 'CONFIG_INVALID', line);
      assert.deepEqual(
        problems.map(({ key }) => key).sort(),
        ['hub_url', 'max_retries', 'reserv'],
        line,
      );
      for (const { source } of problems) {
        assert.match(source, /wrong\/config\.yaml:[123]$/, line);
        assert.ok(outcome.stderr.includes(source), line);
      }
    });
    const able: Case[] = [['agent status wrong', 0], ['agent stop wrong', 0], ['agent journal wrong', 0]]; // prettier-ignore
    await forAll(able, async (each) => {
      await check(each);
    });
  });

  it('about credentials that are missing or a hub that is away: 77 and 75, at once', async () => {
    const cases: Case[] = [
      ['agent start nobody', 77, 'CREDENTIALS_MISSING'],
      ['agent restart nobody', 77, 'CREDENTIALS_MISSING'],
      ['agent ensure nobody', 77, 'CREDENTIALS_MISSING'],
      ['agent whoami nobody', 77, 'CREDENTIALS_MISSING'],
      ['agent login', 77, 'CREDENTIALS_MISSING'],
      ['agent logout', 0],
      ['agent whoami one', 75, 'HUB_UNREACHABLE'],
      [`agent login --no-browser --hub-url http://127.0.0.1:${await freePort()}`, 75, 'HUB_UNREACHABLE'], // prettier-ignore
    ];
    await forAll(cases, async (each) => {
      await check(each);
    });
  });

  it('of a hub without a database, or with one that is away: 78 and 75', async () => {
    const away = {
      OUTPOST_DATABASE_URL: `postgresql://hub:secret@127.0.0.1:${await freePort()}/hub`,
      OUTPOST_AMQP_URL: `amqp://hub:secret@127.0.0.1:${await freePort()}`,
      OUTPOST_AMQP_MANAGEMENT_URL: `http://hub:secret@127.0.0.1:${await freePort()}`,
    };
    const file = join(root, 'password');
    await writeFile(file, 'correct horse battery staple\n', { mode: 0o600 });
    const needing = [
      'start',
      'migrate',
      'client create x',
      'client list',
      'client rotate x',
      'client delete x',
      'group create x',
      'group list',
      'group show x',
      'group delete x',
      'group add x y',
      'group remove x y',
      'user list',
      'user disable x',
      'user sign-out x',
      `user create x --password-file ${file}`,
      `user password x --password-file ${file}`,
    ];
    const cases: Case[] = [
      ['hub status', 69],
      ['hub stop', 0],
      ['hub user create x', 77, 'CREDENTIALS_MISSING'],
      ['hub tunnel nonsense', 78, 'CONFIG_INVALID'],
      ['hub client create x --id nonsense', 64, 'USAGE'],
    ];
    await forAll(needing, async (verb) => {
      await check([`hub ${verb}`, 78, 'CONFIG_INVALID']);
      await check([`hub ${verb}`, 75, 'DATABASE_UNREACHABLE'], away);
    });
    await forAll(cases, async (each) => {
      await check(each);
    });
    const covered = [...needing, 'dev', 'status', 'stop', 'tunnel'].map((verb) => `hub ${verb} `);
    for (const line of commands.hub) {
      assert.ok(covered.some((known) => known.startsWith(`${line} `)), `${line} is not in this table`); // prettier-ignore
    }
  });
});
