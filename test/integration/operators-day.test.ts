/**
 * A day of somebody who looks after one endpoint, from its first settings to its end, on a real hub, broker and database. The cases are
 * the hours of that day and come in this order. Each asserts what the person sees (what happened, who can fix it, what to type) and the
 * exit code; the last one asks whether anything is left alive, and whether every task of the day has ended once and as it was told.
 *
 * What needs a service manager is in systemd.test.ts: start, reload, hang, drain and credentials under systemd, the loss of power and the
 * next boot of the machine. What a package contains is for the packaging suite; here the built commands run.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import pg from 'pg';

import { agentCookie, sweepLeftovers } from '../../src/agent/leftovers.ts';
import { systemClock } from '../../src/base/clock.ts';
import { errorCode, errorText } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { Client, TaskExecutionError } from '../../src/sdk/index.ts';
import type { RegisteredFunction } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { isAlive } from '../support/processes.ts';
import { managementRequest, testServices } from '../support/services.ts';
import { Stack, runProgram } from '../support/stack.ts';
import type { CommandOutcome } from '../support/stack.ts';

/** A task of the day. */
interface DayTask {
  readonly name: string;
  readonly taskId: string;
}

interface Status {
  readonly state: string;
  readonly reason: string | null;
  readonly pid: number | null;
  readonly tasks: { readonly running: number; readonly waiting: number };
  readonly journal: { readonly full: boolean };
  readonly reload: { readonly ok: boolean } | null;
}

/** Says in a file that it runs, prints, and waits until it is let go, if it has to. A fourth argument only makes it large. */
const WORK = async (
  ...[path, name, waits]: [path: string, name: string, waits: boolean, ballast: string]
): Promise<string> => {
  const { access, appendFile } = await import('node:fs/promises');
  await appendFile(path, `${name}\n`);
  process.stdout.write(`${name} prints\n`);
  for (let isOpen = !waits; !isOpen;) {
    await new Promise((resolve) => {
      setTimeout(resolve, 20);
    });
    isOpen = await access(`${path}.${name}`).then(
      () => true,
      () => false,
    );
  }
  return name;
};

const PYTHON_WORK = `def work(path, name):
    with open(path, 'a') as file:
        file.write(name + '\\n')
    print(name, 'prints')
    return name
`;

const TMPFS_MIB = 48;
/** Time for what takes a few attempts; this machine may be busy. */
const SOON_MS = 60_000;

describe('a day of an operator', function () {
  this.timeout(240_000);
  this.bail(true);
  const tasks: DayTask[] = [];
  /** How the submitter of each was told that it ended. */
  const ends = new Map<DayTask, string>();
  let stack: Stack;
  let home: string;
  let configPath: string;
  let secretFile: string;
  let client: Client;
  let endpointId = '';
  let work: RegisteredFunction<[string, string, boolean, string], string>;
  let pythonWork: RegisteredFunction;
  /** Why the disk cannot be made small; undefined when it is. */
  let noSmallDisk: string | undefined;
  /** Processes that ran the endpoint, and those that ran its tasks. */
  const pids = new Set<number>();
  let cookie = '';

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    home = join(stack.home, '.outpost');
    configPath = join(home, 'day', 'config.yaml');
    secretFile = join(stack.home, 'secret');
    mkdirSync(home, { recursive: true, mode: 0o700 });
    try {
      const size = `size=${TMPFS_MIB}m,mode=700`;
      execFileSync('mount', ['-t', 'tmpfs', '-o', size, 'tmpfs', home], { stdio: 'pipe' });
    } catch (error) {
      noSmallDisk = `cannot mount a tmpfs: ${errorText(error).split('\n')[0] ?? ''}`;
    }
    client = makeClient(stack.client.secret);
    work = await client.registerFunction(WORK);
    pythonWork = await client.registerPythonFunction(PYTHON_WORK);
  });

  after(async () => {
    await stack.agentCommand('stop', 'day', '--timeout', '20');
    if (noSmallDisk === undefined) {
      execFileSync('umount', [home]);
    }
    await stack.stop();
  });

  function makeClient(clientSecret: string): Client {
    return new Client({ hubUrl: stack.hubUrl, clientId: stack.client.id, clientSecret });
  }

  /** Runs a command that must end with this code, without a terminal; what it says has no colours. */
  async function agent(code: number, ...args: string[]): Promise<CommandOutcome> {
    const outcome = await stack.agentCommand(...args);
    const said = outcome.stdout + outcome.stderr;
    assert.equal(outcome.code, code, `agent ${args.join(' ')}: ${said}`);
    assert.ok(!said.includes('\u001B'), `colours without a terminal: ${said}`);
    return outcome;
  }

  async function status(): Promise<Status> {
    return JSON.parse((await agent(0, 'status', 'day', '--json')).stdout) as Status;
  }

  async function screen(): Promise<string> {
    return (await agent(0, 'status', 'day')).stdout;
  }

  async function stateIs(state: string): Promise<Status> {
    return await eventually(async () => {
      const now = await status();
      assert.equal(now.state, state, now.reason ?? '');
      return now;
    }, SOON_MS);
  }

  async function notePid(): Promise<number> {
    const pid = await stack.agentPid('day');
    pids.add(pid);
    return pid;
  }

  /** Sets these, whatever stood there before. */
  async function edit(settings: Readonly<Record<string, unknown>>): Promise<void> {
    const lines = (await readFile(configPath, 'utf8'))
      .split('\n')
      .filter((line) => !Object.keys(settings).some((key) => line.startsWith(`${key}:`)));
    const added = Object.entries(settings).map(
      ([key, value]) => `${key}: ${JSON.stringify(value)}`,
    );
    await writeFile(configPath, [...lines, ...added, ''].join('\n'));
  }

  async function submit(name: string, waits = false, ballast = ''): Promise<DayTask> {
    const args: [string, string, boolean, string] = [join(stack.home, 'ran'), name, waits, ballast];
    const task = { name, taskId: await client.run(work, endpointId, args) };
    tasks.push(task);
    return task;
  }

  async function submitPython(name: string): Promise<DayTask> {
    const args = [join(stack.home, 'ran'), name];
    const task = { name, taskId: await client.run(pythonWork, endpointId, args) };
    tasks.push(task);
    return task;
  }

  async function letGo(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      await writeFile(join(stack.home, `ran.${name}`), '');
    }
  }

  async function ran(): Promise<string[]> {
    const path = join(stack.home, 'ran');
    return existsSync(path) ? (await readFile(path, 'utf8')).trim().split('\n') : [];
  }

  async function runs(...names: readonly string[]): Promise<void> {
    await eventually(async () => {
      const seen = await ran();
      assert.ok(
        names.every((name) => seen.includes(name)),
        seen.join(),
      );
    }, SOON_MS);
  }

  async function endOf(taskId: string): Promise<string> {
    try {
      return String(await client.waitForResult(taskId, { timeoutMs: SOON_MS }));
    } catch (error) {
      assert.ok(error instanceof TaskExecutionError, String(error));
      return error.code;
    }
  }

  /** Waits for the end of tasks: their own names when they worked. */
  async function end(...ended: readonly DayTask[]): Promise<string[]> {
    return await Promise.all(
      ended.map(async (task) => {
        const told = await endOf(task.taskId);
        ends.set(task, told);
        return told;
      }),
    );
  }

  async function query<T extends pg.QueryResultRow>(sql: string): Promise<T[]> {
    const connectionString = stack.environment['OUTPOST_DATABASE_URL'] ?? '';
    const database = new pg.Client({ connectionString });
    await database.connect();
    try {
      return (await database.query<T>(sql)).rows;
    } finally {
      await database.end();
    }
  }

  /** A hub that comes back remembers no tokens; until then the agent is online, because the broker is there. */
  async function restartHub(): Promise<void> {
    await stack.stopHub();
    assert.equal((await status()).state, 'online');
    await stack.startHub();
  }

  /** Takes the rights of the agent at the broker away, as a broker that was restored from an old copy has. */
  async function forgetAtBroker(): Promise<void> {
    const { managementUrl } = testServices();
    const vhost = new URL(stack.environment['OUTPOST_AMQP_URL'] ?? '').pathname.slice(1);
    const permissions = (await managementRequest(managementUrl, 'GET', '/permissions')) as {
      user: string;
      vhost: string;
    }[];
    const admin = new URL(managementUrl).username;
    for (const { user } of permissions.filter(
      (each) => each.vhost === vhost && each.user !== admin,
    )) {
      await managementRequest(managementUrl, 'DELETE', `/users/${encodeURIComponent(user)}`);
    }
  }

  it('08:00 is told of all mistakes at once, and makes an endpoint of what is left', async () => {
    await writeFile(secretFile, `${stack.client.secret}\n`, { mode: 0o644 });
    const file = join(stack.home, 'endpoint.yaml');
    await writeFile(
      file,
      'javascript_threads: many\nreserv: 10\nhub_url: http://hub.example.org\ntask_timeout_s: 1h\n',
    );
    const credentials = ['--client-id', stack.client.id, '--client-secret-file', secretFile];
    const wrong = await agent(78, 'configure', 'day', '--from', file, ...credentials);
    for (const expected of [
      new RegExp(`javascript_threads.*${file}:1.*many.*whole number`),
      new RegExp(`reserv.*${file}:2.*reserve`),
      new RegExp(`hub_url.*${file}:3.*https`),
      new RegExp(`task_timeout_s.*${file}:4.*1h.*seconds`),
      new RegExp(`${secretFile}.*chmod 600`),
    ]) {
      assert.match(wrong.stderr, expected);
    }
    assert.ok(!existsSync(join(home, 'day')), 'a failure leaves nothing');
    await writeFile(
      file,
      `javascript_threads: 1\npython_interpreters: 1\npython: /usr/bin/python3\nhub_url: ${stack.hubUrl}\nheartbeat_period_s: 1\nkill_grace_s: 1\n`,
    );
    execFileSync('chmod', ['600', secretFile]);
    const made = await agent(0, 'configure', 'day', '--from', file, ...credentials);
    assert.match(made.stdout, /Made endpoint day: .*config\.yaml\nNext: agent start day\n/);
    await agent(0, 'config', 'validate', 'day');
    assert.match((await agent(0, 'list')).stdout, /^day +- +stopped/m);
    assert.match((await agent(69, 'tasks', 'day')).stderr, /not running.*agent start day/);
  });

  it('08:10 starts it, once', async () => {
    const started = await agent(0, 'start', 'day');
    const found = /^Endpoint day is online \(id ([0-9a-f-]{36}), process (\d+), [\d.]+ s\)\.\n$/.exec(started.stdout); // prettier-ignore
    assert.ok(found !== null, started.stdout);
    endpointId = found[1] ?? '';
    assert.equal(Number(found[2]), await notePid());
    cookie = await agentCookie(join(home, 'day'));
    const second = await agent(73, 'start', 'day');
    assert.match(second.stderr, new RegExp(`running already \\(process ${found[2] ?? ''}.*agent stop day`)); // prettier-ignore
    assert.match((await agent(0, 'list')).stdout, new RegExp(`^day +${endpointId} +online .*\\d `, 'm')); // prettier-ignore
    assert.match(await screen(), /^State: +online$/m);
    assert.match((await agent(0, 'whoami', 'day')).stdout, new RegExp(stack.client.id));
  });

  it('08:20 runs a task in each language, and shows what they printed', async () => {
    const [javascript, python] = [await submit('first'), await submitPython('first-python')];
    assert.deepEqual(await end(javascript, python), ['first', 'first-python']);
    for (const { name, taskId } of [javascript, python]) {
      const shown = await agent(0, 'logs', 'day', '--task', taskId);
      assert.match(shown.stdout, new RegExp(`^Outcome: +succeeded$[^]*--- stdout\n${name} prints\n`, 'm')); // prettier-ignore
    }
    assert.match(await screen(), /^Tasks: +0 running, 0 waiting, 2 done, 0 failed$/m);
  });

  it('09:00 changes settings: what can be is applied under a running task, the rest is named, wrong ones change nothing', async () => {
    const running = await submit('through-reload', true);
    await runs('through-reload');
    const pid = await notePid();
    await edit({ task_timeout_s: 3600, reserve: 32 });
    process.kill(pid, 'SIGHUP');
    await eventually(async () => {
      assert.equal((await status()).reload?.ok, true);
    }, SOON_MS);
    assert.match(await screen(), /^Settings: +reserve changed, waiting for: agent restart day$/m);
    const logged = await agent(0, 'logs', 'day', '-n', '5');
    assert.match(logged.stdout, /task_timeout_s[^]*reserve/);
    await edit({ task_timeout_s: 'forever', log_level: 'loud' });
    const refused = await agent(78, 'reload', 'day');
    assert.match(refused.stderr, /goes on with those from before/);
    assert.match(refused.stderr, /task_timeout_s.*config\.yaml:\d+.*forever/);
    assert.match(refused.stderr, /log_level.*config\.yaml:\d+.*loud/);
    assert.match(await screen(), /^Settings: .* 2 problems.*agent reload day$/m);
    await edit({ task_timeout_s: 3600, log_level: 'info' });
    await agent(0, 'reload', 'day');
    await letGo('through-reload');
    assert.deepEqual(await end(running), ['through-reload']);
    assert.equal(await stack.agentPid('day'), pid);
  });

  it('10:00 drains it for maintenance; what is submitted meanwhile waits and runs afterwards', async () => {
    const running = await submit('at-drain', true);
    await runs('at-drain');
    const behind = await submit('behind-drain');
    const gaveUp = await agent(75, 'drain', 'day', '--reason', 'new kernel', '--timeout', '0.5');
    assert.match(gaveUp.stderr, /still drains.*agent tasks day.*agent resume day.*agent stop day/);
    await letGo('at-drain');
    const drained = await agent(0, 'drain', 'day', '--reason', 'new kernel');
    assert.match(drained.stdout, /is drained .*nothing runs, and new tasks wait at the hub\.\nTo take tasks again: agent resume day/); // prettier-ignore
    assert.deepEqual(await end(running), ['at-drain']);
    const meanwhile = await submit('during-maintenance');
    assert.match((await agent(0, 'list')).stdout, /^day .*online, drained/m);
    assert.match(await screen(), /^Mode: +drained since .* by .*: new kernel$/m);
    for (const { taskId } of [behind, meanwhile]) {
      assert.equal((await client.hub.task(taskId)).status, 'waiting-for-ep');
    }
    const resumed = await agent(0, 'resume', 'day');
    assert.equal(resumed.stdout, 'Endpoint day takes tasks again.\n');
    assert.deepEqual(await end(behind, meanwhile), ['behind-drain', 'during-maintenance']);
  });

  it('11:00 is killed with tasks in hand: says so, starts at once, and every task is answered for', async () => {
    const lost = await submit('at-kill', true);
    await runs('at-kill');
    const waiting = [await submit('behind-kill-1'), await submit('behind-kill-2')];
    await eventually(async () => {
      assert.equal((await status()).tasks.waiting, 2);
    }, SOON_MS);
    const pid = await notePid();
    process.kill(pid, 'SIGKILL');
    await stateIs('stale');
    assert.match(await screen(), new RegExp(`^State: +stale \\(process ${pid} is gone .*agent start day\\)$`, 'm')); // prettier-ignore
    await agent(0, 'start', 'day');
    assert.notEqual(await notePid(), pid);
    assert.deepEqual(await end(lost, ...waiting), ['AGENT_RESTARTED', 'behind-kill-1', 'behind-kill-2']); // prettier-ignore
    const shown = await agent(0, 'logs', 'day', '--task', lost.taskId);
    assert.match(shown.stdout, /^Outcome: +failed: AGENT_RESTARTED: /m);
  });

  it('12:00 goes on when its token has run out, without anybody noticing', async () => {
    await query('delete from access_tokens');
    await restartHub();
    await edit({ display_name: 'After lunch' });
    const reloaded = await agent(0, 'reload', 'day');
    assert.match(reloaded.stdout, /^Applied:\n +display_name: +not set → After lunch$/m);
    await eventually(async () => {
      assert.equal((await client.hub.endpoint(endpointId))['display_name'], 'After lunch');
    }, SOON_MS);
    await stateIs('online');
    assert.deepEqual(await end(await submit('after-token')), ['after-token']);
    const logged = await agent(0, 'logs', 'day', '--level', 'warn', '--since', '5m');
    assert.doesNotMatch(logged.stdout, /registration failed/);
  });

  it('13:00 has a rotated secret: says that the old one is refused, and goes on by itself with the new one', async () => {
    const rotated = await stack.hubCommand('client', 'rotate', 'tester', '--json');
    assert.equal(rotated.code, 0, rotated.stderr);
    const { client_secret: secret } = JSON.parse(rotated.stdout) as { client_secret: string };
    client = makeClient(secret);
    await restartHub();
    // The broker knows the agent still: tasks run, though nobody could sign in.
    assert.deepEqual(await end(await submit('before-sign-in')), ['before-sign-in']);
    const { stderr } = await agent(77, 'whoami', 'day');
    assert.match(stderr, /refused client .*Check the client id and secret/);
    // Its next registration is refused; as long as the broker lets it in, that is no more than a warning.
    await edit({ display_name: 'Afternoon' });
    await agent(0, 'reload', 'day');
    await eventually(async () => {
      assert.match(await screen(), /^Warning: +the hub does not take the registration, and tasks run all the same: .*refused client .*without a restart\)$/m); // prettier-ignore
    }, SOON_MS);
    assert.deepEqual(await end(await submit('after-refusal')), ['after-refusal']);
    await forgetAtBroker();
    await stateIs('offline');
    const shown = await screen();
    assert.match(shown, /^State: +offline \(OFFLINE since .*refused client .*without a restart\)\)$/m); // prettier-ignore
    assert.ok(!shown.includes(secret) && !shown.includes(stack.client.secret));
    assert.match((await agent(0, 'list')).stdout, /^day .* offline /m);
    const waiting = await submit('while-refused');
    const dotenv = join(home, 'day', '.env');
    const text = await readFile(dotenv, 'utf8');
    await writeFile(dotenv, text.replace(stack.client.secret, secret));
    await stateIs('online');
    assert.deepEqual(await end(waiting), ['while-refused']);
    assert.match((await agent(0, 'whoami', 'day')).stdout, new RegExp(stack.client.id));
  });

  it('14:00 has a full disk: says so, loses nothing, and goes on when there is room', async function () {
    if (noSmallDisk !== undefined) {
      if (this.test !== undefined) {
        this.test.title += ` (${noSmallDisk})`;
      }
      this.skip();
    }
    const running = await submit('at-full-disk', true);
    await runs('at-full-disk');
    const filler = join(home, 'filler');
    const { bavail, bsize } = statfsSync(home);
    try {
      writeFileSync(filler, Buffer.alloc(bavail * bsize, 1));
    } catch (error) {
      assert.equal(errorCode(error), 'ENOSPC');
    }
    const waiting = await Promise.all(
      [1, 2, 3].map(async (n) => await submit(`on-full-disk-${n}`, false, 'x'.repeat(50_000))),
    );
    await eventually(async () => {
      assert.equal((await status()).journal.full, true);
    }, SOON_MS);
    // What runs goes on to its end, and its result is delivered.
    await letGo('at-full-disk');
    assert.deepEqual(await end(running), ['at-full-disk']);
    assert.match(await screen(), /^Journal: .*FULL: .*no new tasks.*journal_bytes_max/m);
    assert.equal((await status()).state, 'online');
    rmSync(filler);
    assert.deepEqual(
      await end(...waiting),
      waiting.map(({ name }) => name),
    );
    assert.equal((await status()).journal.full, false);
  });

  it('15:00 has a wrong interpreter: fails its tasks with what that said, runs the others, and is well when it is right again', async () => {
    const broken = join(stack.home, 'broken-python');
    const said = 'error while loading shared libraries: libpython3.11.so.1.0';
    await writeFile(broken, `#!/bin/sh\necho "${said}" >&2\nexit 127\n`, { mode: 0o755 });
    await edit({ python: broken });
    const reloaded = await agent(0, 'reload', 'day');
    assert.match(reloaded.stdout, /Waiting for its next start \(agent restart day\):[^]*python: .*broken-python/); // prettier-ignore
    await agent(0, 'restart', 'day');
    await notePid();
    const [python, javascript] = [await submitPython('broken'), await submit('beside-broken')];
    assert.deepEqual(await end(python, javascript), ['WORKER_START_FAILED', 'beside-broken']);
    assert.match((await agent(0, 'logs', 'day', '--task', python.taskId)).stdout, new RegExp(said));
    assert.match(
      await screen(),
      new RegExp(`^Degraded: +python: .*exit code 127.*\n {15}${said}$`, 'm'),
    );
    // One that is not there at all is found before the agent is stopped.
    await edit({ python: '/nonexistent/python3' });
    const refused = await agent(78, 'restart', 'day');
    assert.match(refused.stderr, /python.*config\.yaml:\d+.*\/nonexistent\/python3.*no such file/);
    assert.equal((await status()).pid, await notePid());
    await edit({ python: '/usr/bin/python3' });
    await agent(0, 'restart', 'day');
    await notePid();
    assert.deepEqual(await end(await submitPython('right-again')), ['right-again']);
    assert.doesNotMatch(await screen(), /^Degraded/m);
  });

  it('17:00 deletes it, when it is told that this is meant', async () => {
    const running = await agent(73, 'delete', 'day', '--yes');
    assert.match(running.stderr, /is running already .*agent stop day/);
    const stopped = await agent(0, 'stop', 'day');
    assert.match(stopped.stdout, /^Endpoint day has stopped \(/);
    assert.match((await agent(64, 'delete', 'day')).stderr, /no terminal.*--yes/);
    assert.match((await agent(0, 'delete', 'day', '--yes')).stdout, /^Deleted endpoint day \(/);
    assert.match(
      (await agent(69, 'status', 'day')).stderr,
      /no endpoint day in .*agent configure day/,
    );
    assert.ok(!existsSync(join(home, 'day')));
    await assert.rejects(client.hub.endpoint(endpointId), { code: 'ENDPOINT_NOT_FOUND' });
  });

  it('18:00 has left nothing alive, and every task of the day has ended once', async () => {
    assert.ok(pids.size >= 4);
    for (const pid of pids) {
      assert.equal(isAlive(pid), false, `process ${pid} is alive`);
    }
    const { killed, survivors } = await sweepLeftovers(cookie, systemClock, silentLogger);
    assert.deepEqual([...killed, ...survivors], []);
    const names = await ran();
    assert.equal(new Set(names).size, names.length, `a task ran twice: ${names.join()}`);
    for (const task of tasks) {
      assert.equal(await endOf(task.taskId), ends.get(task), task.name);
    }
    const open = await query<{ open: string; all: string }>(
      'select count(*) filter (where completed_at is null) as open, count(*) as all from tasks',
    );
    assert.deepEqual(open, [{ open: '0', all: String(tasks.length) }]);
    const processes = await runProgram('/bin/ps', ['-eo', 'args']);
    assert.ok(!processes.stdout.includes(stack.home), 'a process of the day is alive');
  });
});
