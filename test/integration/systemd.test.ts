/**
 * The packaged units under a real systemd (test/support/nested-systemd.ts), with a real hub and broker: what they promise about
 * starting, status, reloading, hanging, stopping, credentials and other users. The boot of the machine: boot.test.ts.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';

import { Client, Executor } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { NestedSystemd, whyNoNestedSystemd } from '../support/nested-systemd.ts';
import { Stack } from '../support/stack.ts';

const SERVICE = { OUTPOST_HOME: '/var/lib/outpost', HOME: '/var/lib/outpost' };

/** Says in a file that it has begun, and ends after a while. */
const SLEEP = async (path: string, ms: number): Promise<string> => {
  const { writeFileSync: write } = await import('node:fs');
  write(path, 'begun');
  await new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
  return 'slept';
};

const WHO = `def who(path):
    import os
    try:
        os.listdir(path)
        seen = True
    except PermissionError:
        seen = False
    return [os.getuid(), seen, os.getcwd()]
`;

/** Tighter than in the packaged units, so that a test need not wait: a hang shows soon, and a drain outlives the manager's patience. */
const TIGHT = '[Service]\nWatchdogSec=5\nTimeoutStopSec=1\n';

describe('the units under a real systemd', function () {
  this.timeout(240_000);
  let machine: NestedSystemd;
  let stack: Stack;
  const executors: Executor[] = [];
  const ids = new Map<string, string>();

  before(async function () {
    const reason = whyNoNestedSystemd();
    if (reason !== undefined) {
      // Counted by the reporter as pending, with this reason.
      this.test?.parent?.eachTest((test) => {
        test.title += ` (no nested systemd: ${reason})`;
      });
      this.skip();
    }
    [machine, stack] = await Promise.all([NestedSystemd.boot(), Stack.start({ hubOnly: true })]);
    await shell(
      `mkdir -p /etc/systemd/system/agent@.service.d && printf '${TIGHT}' > /etc/systemd/system/agent@.service.d/tight.conf
       mkdir -p /etc/systemd/system/agent-worker@.service.d && printf '[Service]\\nWatchdogSec=5\\n' > /etc/systemd/system/agent-worker@.service.d/tight.conf
       umask 077; mkdir /etc/credstore; printf %s ${stack.client.secret} > /var/lib/outpost/secret; chown outpost: /var/lib/outpost/secret`,
    );
    await machine.systemctl('daemon-reload');
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

  async function shell(script: string): Promise<void> {
    const { code, stderr } = await machine.run('sh', '-ec', script.replaceAll(/\n\s*/g, '\n'));
    assert.equal(code, 0, stderr);
  }

  async function configure(name: string, ...flags: string[]): Promise<void> {
    const common = ['--hub-url', stack.hubUrl, '--heartbeat-period-s', '1', '--python', '/usr/bin/python3']; // prettier-ignore
    const all = ['agent', 'configure', name, ...common, '--max-retries', '1', ...flags] as const;
    const done = await machine.runAs('outpost', SERVICE, ...all);
    assert.equal(done.code, 0, done.stderr);
  }

  const ownSecret = (): string[] => ['--client-id', stack.client.id, '--client-secret-file', '/var/lib/outpost/secret']; // prettier-ignore

  async function statusIs(unit: string, pattern: RegExp): Promise<string> {
    return await eventually(async () => {
      const { StatusText: text = '' } = await machine.show(unit, 'StatusText');
      assert.match(text, pattern, machine.output());
      return text;
    });
  }

  async function isOnline(name: string): Promise<void> {
    const text = await statusIs(`agent@${name}`, /^online, endpoint [0-9a-f-]{36}$/);
    ids.set(name, text.slice(-36));
  }

  async function stateIs(unit: string, state: string): Promise<void> {
    await eventually(async () => {
      assert.equal((await machine.show(unit, 'ActiveState'))['ActiveState'], state);
    });
  }

  async function restarted(unit: string, count: string): Promise<void> {
    await eventually(async () => {
      const shown = await machine.show(unit, 'NRestarts', 'ActiveState');
      assert.deepEqual(shown, { NRestarts: count, ActiveState: 'active' });
    });
  }

  /** Begins a task that takes so long; resolves when it runs, with the promise of its end in an object. */
  async function sleeping(
    name: string,
    home: string,
    ms: number,
  ): Promise<{ end: Promise<string> }> {
    const path = `${home}/${name}/tasks/begun-${randomUUID()}`;
    const end = executor(name).submit(SLEEP, path, ms);
    await eventually(() => {
      assert.ok(existsSync(machine.path(path)));
    });
    return { end };
  }

  function client(): Client {
    const { id, secret } = stack.client;
    return new Client({ hubUrl: stack.hubUrl, clientId: id, clientSecret: secret });
  }

  function executor(name: string): Executor {
    const made = new Executor({ client: client(), endpointId: ids.get(name) ?? '' });
    executors.push(made);
    return made;
  }

  async function uidOf(user: string): Promise<number> {
    return Number((await machine.run('id', '-u', user)).stdout);
  }

  describe('agent@.service', () => {
    before(async () => {
      const { id, secret } = stack.client;
      // LoadCredential= finds them there; nobody but root reads them.
      await shell(
        `umask 077; printf %s ${id} > /etc/credstore/outpost.main.client-id; printf %s ${secret} > /etc/credstore/outpost.main.client-secret`,
      );
      await configure('main');
    });

    it('has started when the agent is ready, signed in with a credential of the manager', async () => {
      await machine.systemctl('start', 'agent@main');
      await stateIs('agent@main', 'active');
      await isOnline('main');
      const work = executor('main');
      assert.equal(await work.submit((a: number, b: number) => a + b, 40, 2), 42);
      const pid = await machine.mainPid('agent@main');
      assert.match(readFileSync(`/proc/${pid}/environ`, 'utf8'), /NOTIFY_SOCKET=/);
      const names = await work.submit(() => Object.keys(process.env));
      assert.deepEqual(
        names.filter((name) => /NOTIFY|WATCHDOG|CREDENTIAL|STATE_DIR/.test(name)),
        [],
      );
    });

    it('reloads: wrong settings fail the reload, are told in the status, and change nothing', async () => {
      const config = machine.path('/var/lib/outpost/main/config.yaml');
      const good = readFileSync(config, 'utf8');
      const pid = await machine.mainPid('agent@main');
      appendFileSync(config, '\ndrain_grace_s: 20\nno_such_setting: 1\n');
      const refused = await machine.run('systemctl', 'reload', 'agent@main');
      assert.notEqual(refused.code, 0);
      await statusIs('agent@main', /the settings on disk are wrong/);
      writeFileSync(config, `${good}\ndrain_grace_s: 20\n`);
      await machine.systemctl('reload', 'agent@main');
      await isOnline('main');
      assert.equal(await machine.mainPid('agent@main'), pid);
    });

    it('is started again when it hangs, and loses no task', async () => {
      const task = await sleeping('main', '/var/lib/outpost', 2000);
      process.kill(await machine.mainPid('agent@main'), 'SIGSTOP');
      await restarted('agent@main', '1');
      assert.equal(await task.end, 'slept');
    });

    it('stops when running tasks have ended, also past the time limit of the manager', async () => {
      const task = await sleeping('main', '/var/lib/outpost', 4000);
      await machine.systemctl('stop', '--no-block', 'agent@main');
      await statusIs('agent@main', /^stopping: 1 running/);
      assert.equal(await task.end, 'slept');
      await stateIs('agent@main', 'inactive');
      assert.equal((await machine.show('agent@main', 'Result'))['Result'], 'success');
    });
  });

  describe('agent-worker@.service', () => {
    before(async () => {
      await configure('pair', '--worker-host', 'unit', ...ownSecret());
      await machine.systemctl('enable', 'agent@pair', 'agent-worker@pair');
    });

    it('runs tasks as another user, to whom the directories of the agent are closed', async () => {
      await machine.systemctl('start', 'agent@pair');
      await isOnline('pair');
      await stateIs('agent-worker@pair', 'active');
      const uid = await uidOf('outpost-worker');
      const work = executor('pair');
      const python = await client().registerPythonFunction(WHO);
      assert.deepEqual(await work.submitToRegisteredFunction(python, ['/var/lib/outpost']), [
        uid,
        false,
        '/var/lib/outpost-worker/pair/tasks',
      ]);
      const javascript = await work.submit(async () => {
        const { readFile } = await import('node:fs/promises');
        const read = readFile('/var/lib/outpost/pair/.env').then(
          () => 'read',
          (error: unknown) => (error as { code: string }).code,
        );
        return [process.getuid?.(), await read];
      });
      assert.deepEqual(javascript, [uid, 'EACCES']);
      await statusIs('agent-worker@pair', /^runs tasks of endpoint pair$/);
    });

    it('is started again when it is killed or hangs, and the agent goes on with the new one', async () => {
      const work = executor('pair');
      process.kill(await machine.mainPid('agent-worker@pair'), 'SIGKILL');
      await restarted('agent-worker@pair', '1');
      assert.equal(await work.submit((n: number) => n + 1, 1), 2);
      process.kill(await machine.mainPid('agent-worker@pair'), 'SIGSTOP');
      await restarted('agent-worker@pair', '2');
      assert.equal(await work.submit((n: number) => n + 1, 2), 3);
      assert.equal((await machine.show('agent@pair', 'NRestarts'))['NRestarts'], '0');
    });

    it('stops with the agent, after running tasks have ended', async () => {
      const task = await sleeping('pair', '/var/lib/outpost-worker', 3000);
      await machine.systemctl('stop', 'agent@pair');
      assert.equal(await task.end, 'slept');
      await stateIs('agent@pair', 'inactive');
      await stateIs('agent-worker@pair', 'inactive');
      assert.equal((await machine.show('agent-worker@pair', 'Result'))['Result'], 'success');
    });
  });

  describe('hub.service', () => {
    it('has started when requests are answered, and stops in order', async () => {
      await stack.stopHub();
      const settings = Object.entries(stack.environment)
        .filter(([name]) => name.startsWith('OUTPOST_') && name !== 'OUTPOST_HOME')
        .map(([name, value]) => `${name}=${value ?? ''}`);
      await shell(`umask 077; cat > /etc/outpost/hub.env <<'END'\n${settings.join('\n')}\nEND`);
      await machine.systemctl('start', 'hub');
      assert.equal((await fetch(`${stack.hubUrl}/v2/version`)).status, 200);
      await statusIs('hub', /^serving http:/);
      await machine.systemctl('stop', 'hub');
      assert.equal((await machine.show('hub', 'Result'))['Result'], 'success');
    });
  });
});
