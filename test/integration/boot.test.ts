/**
 * An endpoint that starts with its machine, in each of the ways of `agent enable-on-boot`, on a machine with a real systemd and a real
 * cron (test/support/nested-systemd.ts) that is booted again and again: with its power cut, in order, and after `agent disable-on-boot`.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

import { Client, Executor, TaskExecutionError } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { NestedSystemd, whyNoNestedSystemd } from '../support/nested-systemd.ts';
import { Stack } from '../support/stack.ts';

/** A boot and the start of an agent, on a busy machine. */
const LONG_MS = 90_000;

/** Notes that it has begun, and ends when a file of its name is there. */
const HOLD = async (place: string, name: string): Promise<string> => {
  const { appendFileSync, existsSync: isThere } = await import('node:fs');
  appendFileSync(`${place}/ran`, `${name}\n`);
  while (!isThere(`${place}/go-${name}`)) {
    await new Promise((resolve) => {
      setTimeout(resolve, 50);
    });
  }
  return name;
};

interface Status {
  readonly state: string;
  readonly pid: number | null;
  readonly endpoint_id: string;
  readonly tasks: { readonly running: number; readonly waiting: number };
}

/** Whose endpoint it is, and the directory that tasks of it write to. */
interface Owner {
  readonly user: string;
  readonly home: string;
  readonly environment: Readonly<Record<string, string>>;
}

describe('an endpoint that starts with its machine', function () {
  this.timeout(300_000);
  let machine: NestedSystemd;
  let stack: Stack;
  const executors: Executor[] = [];
  const service: Owner = {
    user: 'outpost',
    home: '/var/lib/outpost',
    environment: { OUTPOST_HOME: '/var/lib/outpost', HOME: '/var/lib/outpost' },
  };
  let alice: Owner;
  let bob: Owner;
  let carol: Owner;

  before(async function () {
    const reason =
      whyNoNestedSystemd() ??
      (existsSync('/usr/sbin/cron') ? undefined : 'no cron: apt-get install cron');
    if (reason !== undefined) {
      this.test?.parent?.eachTest((test) => {
        test.title += ` (${reason})`;
      });
      this.skip();
    }
    [machine, stack] = await Promise.all([NestedSystemd.boot(), Stack.start({ hubOnly: true })]);
    [alice, bob, carol] = await Promise.all(['alice', 'bob', 'carol'].map(addUser)) as [Owner, Owner, Owner]; // prettier-ignore
    await machine.systemctl('enable', '--now', 'cron');
    for (const owner of [service, alice, bob]) {
      await configure(owner);
    }
  });

  after(async () => {
    await Promise.all(
      executors.map(async (executor) => {
        await executor.shutdown();
      }),
    );
    await (machine as NestedSystemd | undefined)?.close();
    await (stack as Stack | undefined)?.stop();
  });

  async function addUser(user: string): Promise<Owner> {
    await machine.addUser(user);
    return { user, home: `/var/lib/${user}`, environment: machine.userEnvironment(user) };
  }

  async function shell(owner: Owner | 'root', script: string): Promise<string> {
    const { user, environment } = owner === 'root' ? { user: 'root', environment: {} } : owner;
    const { code, stdout, stderr } = await machine.runAs(user, environment, 'sh', '-ec', script);
    assert.equal(code, 0, stderr);
    return stdout;
  }

  async function agent(
    owner: Owner,
    code: number,
    ...args: string[]
  ): Promise<{ stdout: string; stderr: string }> {
    // prettier-ignore
    const outcome = await machine.runAs(owner.user, owner.environment, 'agent', ...args);
    assert.equal(outcome.code, code, `agent ${args.join(' ')}: ${outcome.stderr}`);
    return outcome;
  }

  async function configure(owner: Owner): Promise<void> {
    const secret = `${owner.home}/secret`;
    writeFileSync(machine.path(secret), stack.client.secret);
    await shell('root', `chown ${owner.user}: ${secret}; chmod 600 ${secret}`);
    const who = ['--client-id', stack.client.id, '--client-secret-file', secret];
    const what = ['--javascript-threads', '1', '--python-interpreters', '0', '--heartbeat-period-s', '1']; // prettier-ignore
    await agent(owner, 0, 'configure', 'mine', '--hub-url', stack.hubUrl, ...who, ...what);
  }

  async function status(owner: Owner): Promise<Status> {
    return JSON.parse((await agent(owner, 0, 'status', 'mine', '--json')).stdout) as Status;
  }

  async function isOnline(owner: Owner): Promise<Status> {
    return await eventually(async () => {
      const now = await status(owner);
      assert.equal(now.state, 'online', machine.output());
      return now;
    }, LONG_MS);
  }

  function ran(owner: Owner): string[] {
    const path = machine.path(`${owner.home}/ran`);
    return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
  }

  function letGo(owner: Owner, name: string): void {
    writeFileSync(machine.path(`${owner.home}/go-${name}`), '');
  }

  /** One task that runs, and two behind it that would end at once; resolves when the agent has all three. */
  async function submitThree(owner: Owner, name: string): Promise<Promise<string>[]> {
    const { endpoint_id: endpointId } = await isOnline(owner);
    const { id, secret } = stack.client;
    const client = new Client({ hubUrl: stack.hubUrl, clientId: id, clientSecret: secret });
    const executor = new Executor({ client, endpointId });
    executors.push(executor);
    const names = [`${name}-running`, `${name}-behind-1`, `${name}-behind-2`];
    const ends = names.map(async (each) => await endOf(executor.submit(HOLD, owner.home, each)));
    for (const each of names.slice(1)) {
      letGo(owner, each);
    }
    await eventually(async () => {
      const { tasks } = await status(owner);
      assert.deepEqual([tasks.running, tasks.waiting], [1, 2]);
      assert.ok(ran(owner).includes(names[0] ?? ''));
    }, LONG_MS);
    return ends;
  }

  async function endOf(result: Promise<string>): Promise<string> {
    try {
      return await result;
    } catch (error) {
      assert.ok(error instanceof TaskExecutionError);
      return error.code;
    }
  }

  function ranOnce(owner: Owner, name: string): void {
    const names = ran(owner).filter((each) => each.startsWith(`${name}-`));
    assert.deepEqual(names.toSorted(), [`${name}-behind-1`, `${name}-behind-2`, `${name}-running`]);
  }

  /** As processes of the machine see it. */
  async function variablesOf(owner: Owner): Promise<string[]> {
    const { pid } = await isOnline(owner);
    return (await shell('root', `tr '\\0' '\\n' < /proc/${pid ?? 0}/environ`)).trim().split('\n');
  }

  it('is made a hardened unit by root, for an endpoint of the service', async () => {
    const { environment } = service;
    const enabled = await machine.runAs('root', environment, 'agent', 'enable-on-boot', 'mine');
    assert.equal(enabled.code, 0, enabled.stderr);
    const verified = await machine.run('systemd-analyze', 'verify', 'agent@mine.service');
    assert.deepEqual([verified.code, verified.stdout, verified.stderr], [0, '', '']);
    const { ProtectSystem: protect, User: user } = await machine.show('agent@mine', 'ProtectSystem', 'User'); // prettier-ignore
    assert.deepEqual([protect, user], ['strict', 'outpost']);
    const other = await machine.runAs('root', bob.environment, 'agent', 'enable-on-boot', 'mine');
    assert.equal(other.code, 69, other.stdout);
    assert.match(other.stderr, /not written by this command for an endpoint in \/var\/lib\/bob/);
  });

  it('is made a unit of the user without root, where the user’s manager outlives the login', async () => {
    await machine.startUserManager('alice');
    const dry = await agent(alice, 0, 'enable-on-boot', 'mine', '--dry-run', '--json');
    assert.equal((JSON.parse(dry.stdout) as { method: string }).method, 'user');
    await agent(alice, 0, 'enable-on-boot', 'mine');
  });

  it('is made a line of the crontab where there is neither root nor a manager of the user', async () => {
    // Of the user's own, and the other lines of a crontab stay as they are.
    await shell(bob, `echo '@reboot date >> ${bob.home}/boots' | crontab -`);
    for (const time of ['first', 'second']) {
      const { stdout } = await agent(bob, 0, 'enable-on-boot', 'mine');
      assert.match(stdout, /Done: add to your crontab/, time);
    }
    const crontab = await shell(bob, 'crontab -l');
    assert.equal(
      crontab.match(/^@reboot env OUTPOST_HOME=.* ensure mine >\/dev\/null$/gm)?.length,
      1,
    );
    assert.match(crontab, /boots$/m);
  });

  it('is made a line of the crontab where there is a manager of the user, and loginctl refuses that it outlives the login', async () => {
    await machine.startUserManager('carol', { lingers: false });
    await agent(carol, 0, 'configure', 'mine', '--hub-url', stack.hubUrl);
    const refused = await agent(carol, 75, 'enable-on-boot', 'mine', '--user');
    assert.match(refused.stderr, /loginctl enable-linger.*(administrator|root).*--cron/s);
    // Where cron is forbidden, too, nothing is left but to ask.
    await shell('root', 'echo root > /etc/cron.allow');
    const nothing = await agent(carol, 69, 'enable-on-boot', 'mine');
    assert.match(nothing.stderr, /loginctl enable-linger carol; .*cron\.allow.*agent ensure mine/);
    await shell('root', 'rm /etc/cron.allow');
    const { stdout, stderr } = await agent(carol, 0, 'enable-on-boot', 'mine');
    assert.match(stderr, /end when you log out.*Using cron instead/s);
    assert.match(stdout, /@reboot .* ensure mine/);
    assert.equal(existsSync(machine.path('/var/lib/carol/.config/systemd')), false);
    const disabled = await agent(carol, 0, 'disable-on-boot', 'mine', '--json');
    // The unit of the system is another person's endpoint of the same name.
    assert.deepEqual((JSON.parse(disabled.stdout) as { methods: string[] }).methods, ['cron']);
    assert.equal(await shell(carol, 'crontab -l'), '');
  });

  it('is started at the boot in each of these ways, by cron with the little that cron gives', async () => {
    await machine.reboot();
    await Promise.all([service, alice, bob].map(isOnline));
    const variables = await variablesOf(bob);
    assert.ok(variables.includes(`HOME=${bob.home}`), variables.join());
    assert.deepEqual(variables.filter((each) => /^(XDG_RUNTIME_DIR|MAILTO|LS_COLORS)=/.test(each)), []); // prettier-ignore
    const { pid } = await status(bob);
    assert.equal((await shell('root', `stat -c %U /proc/${pid ?? 0}`)).trim(), 'bob');
    // Cron starts it once per boot, and what it has started outlives it.
    await machine.systemctl('restart', 'cron');
    assert.equal((await isOnline(bob)).pid, pid);
  });

  it('is back after the machine has lost its power, and every task has one end', async () => {
    const owners = [service, alice, bob];
    const ends = await Promise.all(owners.map(async (owner) => await submitThree(owner, 'cut')));
    await machine.reboot();
    for (const [index, owner] of owners.entries()) {
      const [running, ...behind] = await Promise.all(ends[index] ?? []);
      assert.equal(running, 'AGENT_RESTARTED', owner.user);
      // After a loss of power what had been handed to a worker ahead of time counts as begun. All others run now, and nothing twice.
      const names = ['cut-behind-1', 'cut-behind-2'];
      for (const [at, end] of behind.entries()) {
        assert.ok(end === names[at] || end === 'AGENT_RESTARTED', `${owner.user}: ${end}`);
      }
      const done = behind.filter((end) => end !== 'AGENT_RESTARTED');
      const begun = ran(owner).filter((name) => name.startsWith('cut-'));
      assert.deepEqual(begun, ['cut-running', ...done], owner.user);
    }
  });

  it('is back after an orderly reboot, for which what ran was waited for', async () => {
    // Units only: what cron has started is ended by the very last step of a shutdown, which namespaces do not have.
    const owners = [service, alice];
    const ends = await Promise.all(owners.map(async (owner) => await submitThree(owner, 'down')));
    const isDown = machine.shutDown();
    await eventually(async () => {
      const { SubState: state } = await machine.show('agent@mine', 'SubState');
      assert.match(state ?? '', /^stop/);
    }, LONG_MS);
    for (const owner of owners) {
      letGo(owner, 'down-running');
    }
    await isDown;
    await machine.reboot();
    for (const [index, owner] of owners.entries()) {
      assert.deepEqual(
        await Promise.all(ends[index] ?? []),
        ['down-running', 'down-behind-1', 'down-behind-2'],
        owner.user,
      );
      ranOnce(owner, 'down');
    }
  });

  it('is not started any more after disable-on-boot', async () => {
    const { environment } = service;
    const disabled = await machine.runAs('root', environment, 'agent', 'disable-on-boot', 'mine', '--json'); // prettier-ignore
    assert.deepEqual((JSON.parse(disabled.stdout) as { methods: string[] }).methods, ['system']);
    assert.match((await agent(alice, 0, 'disable-on-boot', 'mine')).stdout, /no longer starts with the machine/); // prettier-ignore
    await agent(bob, 0, 'disable-on-boot', 'mine');
    assert.equal(await shell(bob, 'crontab -l'), `@reboot date >> ${bob.home}/boots\n`);
    const unit = await machine.run('systemctl', 'cat', 'agent@mine');
    assert.doesNotMatch(unit.stdout, /Written by agent enable-on-boot/);
    const boots = readFileSync(machine.path(`${bob.home}/boots`), 'utf8');
    await machine.reboot();
    // Cron has been through the lines of this boot, and the managers through their units.
    await eventually(() => {
      const now = readFileSync(machine.path(`${bob.home}/boots`), 'utf8');
      assert.ok(now.length > boots.length);
    }, LONG_MS);
    for (const owner of [service, alice, bob]) {
      assert.doesNotMatch((await status(owner)).state, /online|offline|starting/, owner.user);
    }
  });
});
