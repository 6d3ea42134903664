/** `agent doctor` on endpoints that are well and on such that are not, and the archive that it writes for a report. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { appendFile, chmod, mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { createServer as createTlsServer } from 'node:https';
import { createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';

import { agentCookie } from '../../src/agent/leftovers.ts';
import { Client, Executor } from '../../src/sdk/index.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { isAlive } from '../support/processes.ts';
import { RecordingProxy } from '../support/recording-proxy.ts';
import { managementRequest, testServices } from '../support/services.ts';
import { Stack, runProgram } from '../support/stack.ts';
import { TLS_CERTIFICATE_PEM, TLS_KEY_PEM } from '../support/tls-fixture.ts';

interface Report {
  readonly name: string;
  readonly verdict: string;
  readonly found: string;
  readonly remedy: string | null;
  readonly details: Readonly<Record<string, unknown>>;
}

interface Diagnosis {
  readonly code: number | null;
  readonly verdict: string;
  readonly exit_code: number;
  readonly checks: readonly Report[];
}

const OPERATORS_KEY = 'key-of-a-program-of-the-operator';
const ARGUMENT = 'patient-4711-is-an-argument';
const PRINTED = 'patient-4711-was-printed';
const RAISED = 'patient-4711-was-raised';
const RETURNED = 'patient-4711-was-returned';

/** Ids of processes with this text in their arguments. */
function processesNaming(text: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(text);
    } catch {
      // It has ended meanwhile.
      return false;
    }
  });
}

describe('agent doctor', function () {
  this.timeout(240_000);
  let stack: Stack;
  let proxy: RecordingProxy;
  let silent: Server;

  before(async () => {
    stack = await Stack.start({ hubOnly: true });
    proxy = await RecordingProxy.start(stack.hubUrl);
    // Takes connections and never says a word, but notices when they end.
    silent = createServer((socket) => {
      socket.on('error', () => undefined).resume();
    }).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    await configure('default', { 'hub-url': proxy.url, 'log-level': 'trace' });
    const config = join(directoryOf('default'), 'config.yaml');
    await appendFile(config, `\nenvironment:\n  PROGRAM_KEY: ${OPERATORS_KEY}\n`);
  });

  after(async () => {
    await stack.agentCommand('stop', 'default');
    silent.close();
    await proxy.stop();
    await stack.stop();
  });

  function directoryOf(name: string): string {
    return join(stack.home, '.outpost', name);
  }

  async function configure(name: string, settings: Record<string, string | number>): Promise<void> {
    const places = { 'javascript-threads': 1, 'python-interpreters': 1 };
    await stack.configureAgent(name, { ...places, ...settings });
  }

  async function doctor(name: string, ...flags: string[]): Promise<Diagnosis> {
    const { code, stdout, stderr } = await stack.agentCommand('doctor', name, '--json', ...flags);
    assert.notEqual(stdout, '', stderr);
    const diagnosis = JSON.parse(stdout) as Omit<Diagnosis, 'code'>;
    assert.equal(code, diagnosis.exit_code, stdout);
    return { code, ...diagnosis };
  }

  function reportOf({ checks }: Diagnosis, name: string): Report {
    const report = checks.find((check) => check.name === name);
    assert.ok(report !== undefined, name);
    return report;
  }

  /** Names by verdict, to compare with what is expected. */
  function named({ checks }: Diagnosis, verdict: string): string[] {
    return checks.filter((check) => check.verdict === verdict).map((check) => check.name);
  }

  it('finds nothing wrong with an endpoint that has never run, and runs a task of each language', async () => {
    const diagnosis = await doctor('default', '--timeout', '60');
    assert.deepEqual(named(diagnosis, 'failed'), [], JSON.stringify(diagnosis.checks));
    assert.equal(diagnosis.code, 0);
    assert.deepEqual(named(diagnosis, 'skipped'), ['registration', 'broker-queue', 'environments']);
    for (const name of ['javascript-task', 'python-task', 'broker-sign-in', 'broker-heartbeat']) {
      assert.equal(reportOf(diagnosis, name).verdict, 'ok', name);
    }
    assert.match(reportOf(diagnosis, 'credentials').found, new RegExp(stack.client.id));
  });

  it('looks at a running agent without taking anything from it', async () => {
    await stack.startAgent('default');
    const before = JSON.parse((await stack.agentCommand('status', '--json')).stdout) as unknown;
    const diagnosis = await doctor('default', '--timeout', '60');
    const after = JSON.parse((await stack.agentCommand('status', '--json')).stdout) as unknown;
    assert.deepEqual(named(diagnosis, 'failed'), [], JSON.stringify(diagnosis.checks));
    for (const name of ['agent', 'registration', 'broker-queue', 'leftovers']) {
      assert.equal(reportOf(diagnosis, name).verdict, 'ok', reportOf(diagnosis, name).found);
    }
    const lasting = (status: unknown): unknown[] => {
      const { lease_epoch: epoch, sessions, pid, worker_host_pid: host } = status as Record<string, unknown>; // prettier-ignore
      return [epoch, sessions, pid, host];
    };
    assert.deepEqual(lasting(after), lasting(before));
  });

  it('names a wrong setting with what depends on it, and goes on with the rest', async () => {
    await configure('wrong', {});
    const config = join(directoryOf('wrong'), 'config.yaml');
    const text = await readFile(config, 'utf8');
    await writeFile(config, text.replace(/^python: .*$/m, 'python: /nowhere/python3'));
    const diagnosis = await doctor('wrong', '--timeout', '60');
    assert.equal(diagnosis.code, 78);
    assert.deepEqual(named(diagnosis, 'failed'), ['settings']);
    assert.match(reportOf(diagnosis, 'settings').found, /\/nowhere\/python3/);
    assert.match(reportOf(diagnosis, 'python').found, /the setting python is wrong/);
    assert.equal(reportOf(diagnosis, 'python-task').verdict, 'skipped');
    assert.equal(reportOf(diagnosis, 'javascript-task').verdict, 'ok');
    assert.equal(reportOf(diagnosis, 'identity').verdict, 'ok');
  });

  it('names files that others can read, and who may not be told a secret', async () => {
    const dotenv = join(directoryOf('wrong'), '.env');
    await chmod(dotenv, 0o644);
    const diagnosis = await doctor('wrong', '--only', 'permissions,identity');
    await chmod(dotenv, 0o600);
    assert.equal(diagnosis.code, 78);
    assert.match(reportOf(diagnosis, 'permissions').remedy ?? '', /chmod 600 .*\.env/);
    assert.equal(reportOf(diagnosis, 'credentials').verdict, 'failed');
    assert.equal(reportOf(diagnosis, 'identity').verdict, 'skipped');
  });

  it('names credentials that the hub refuses, with the exit code for that', async () => {
    await configure('refused', {});
    const dotenv = join(directoryOf('refused'), '.env');
    const text = await readFile(dotenv, 'utf8');
    await writeFile(dotenv, text.replace(stack.client.secret, 'not-the-secret-at-all'));
    const diagnosis = await doctor('refused', '--only', 'identity,broker-sign-in');
    assert.equal(diagnosis.code, 77);
    assert.deepEqual(named(diagnosis, 'failed'), ['identity']);
    assert.equal(reportOf(diagnosis, 'broker-sign-in').verdict, 'skipped');
    assert.equal(JSON.stringify(diagnosis).includes('not-the-secret-at-all'), false);
  });

  it('says that nothing listens at the address of the hub', async () => {
    await configure('lost', { 'hub-url': `http://localhost:${await freePort()}` });
    const diagnosis = await doctor('lost', '--only', 'hub-http,clock-skew,node');
    assert.equal(diagnosis.code, 75);
    assert.match(reportOf(diagnosis, 'hub-tcp').found, /nothing listens there/);
    assert.deepEqual(named(diagnosis, 'skipped'), ['hub-http', 'clock-skew']);
    assert.equal(reportOf(diagnosis, 'node').verdict, 'ok');
  });

  it('ends in time when hub or broker take connections and say nothing', async () => {
    const { port } = silent.address() as AddressInfo;
    await configure('mute', { 'hub-url': `http://localhost:${port}` });
    await configure('half', { 'amqp-port': port });
    const [mute, half] = await Promise.all([
      doctor('mute', '--timeout', '3', '--only', 'hub-http,identity'),
      doctor('half', '--timeout', '8', '--only', 'broker-sign-in,broker-heartbeat'),
    ]);
    assert.equal(mute.code, 75);
    assert.equal(reportOf(mute, 'hub-http').verdict, 'failed');
    assert.equal(half.code, 75);
    assert.deepEqual(named(half, 'failed'), ['broker-sign-in', 'broker-heartbeat']);
  });

  it('says who has signed the certificate of the hub, or why it is not believed', async () => {
    const server = createTlsServer(
      { key: TLS_KEY_PEM, cert: TLS_CERTIFICATE_PEM },
      (_request, response) => {
        response.writeHead(404).end('a web server, and no hub');
      },
    ).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const { port } = server.address() as AddressInfo;
      const caFile = join(stack.home, 'ca.pem');
      await writeFile(caFile, TLS_CERTIFICATE_PEM);
      await configure('believed', { 'hub-url': `https://localhost:${port}`, 'ca-file': caFile });
      await configure('unknown', { 'hub-url': `https://localhost:${port}` });
      const [believed, unknown] = await Promise.all([
        doctor('believed', '--only', 'hub-tls,hub-http'),
        doctor('unknown', '--only', 'hub-tls,hub-http'),
      ]);
      assert.match(
        reportOf(believed, 'hub-tls').found,
        /signed by "CN=localhost" and ends in \d{5} days/,
      );
      assert.match(reportOf(believed, 'hub-http').found, /not as a hub does/);
      assert.deepEqual(named(unknown, 'failed'), ['hub-tls']);
      assert.match(reportOf(unknown, 'hub-tls').found, /signed itself/);
      assert.equal(unknown.code, 75);
      const { port: plain } = silent.address() as AddressInfo;
      await configure('plain', { 'hub-url': `https://localhost:${plain}` });
      const none = await doctor('plain', '--only', 'hub-tls', '--timeout', '3');
      assert.deepEqual(named(none, 'failed'), ['hub-tls']);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  it('tells a right that is missing at the broker from one that is there', async () => {
    const before = await doctor('default', '--only', 'broker-address,broker-sign-in');
    assert.equal(reportOf(before, 'broker-sign-in').verdict, 'ok');
    const { user, vhost } = reportOf(before, 'broker-address').details as Record<string, string>;
    const path = `/permissions/${encodeURIComponent(vhost ?? '')}/${encodeURIComponent(user ?? '')}`;
    const nothing = { configure: '^$', write: '^$', read: '^$' };
    await managementRequest(testServices().managementUrl, 'PUT', path, nothing);
    const after = await doctor('default', '--only', 'broker-sign-in');
    const read = `^${user?.replace('person.', '') ?? ''}\\.`;
    await managementRequest(testServices().managementUrl, 'PUT', path, { ...nothing, read });
    assert.equal(after.code, 77);
    assert.match(reportOf(after, 'broker-sign-in').found, /may not read the results/);
  });

  it('leaves out what credentials that may only run an endpoint are not shown', async () => {
    await configure('runner', {});
    const { id, secret } = await stack.createClient('runner', '--endpoint-only');
    const text = `OUTPOST_CLIENT_ID=${id}\nOUTPOST_CLIENT_SECRET=${secret}\n`;
    await writeFile(join(directoryOf('runner'), '.env'), text, { mode: 0o600 });
    const diagnosis = await doctor('runner', '--only', 'identity,broker-address,broker-sign-in');
    assert.equal(diagnosis.code, 0, JSON.stringify(diagnosis.checks));
    assert.deepEqual(named(diagnosis, 'skipped'), ['broker-address', 'broker-sign-in']);
  });

  it('leaves no process and no directory of a check that took too long', async () => {
    const temporary = join(stack.home, 'tmp');
    await mkdir(temporary);
    const agent = join(import.meta.dirname, '../../src/cli/agent.js');
    const args = [agent, 'doctor', '--json', '--only', 'javascript-task', '--timeout', '0.05'];
    const env = { ...stack.agentEnvironment, TMPDIR: temporary };
    const { code, stdout } = await runProgram(process.execPath, args, { env });
    assert.equal(code, 75);
    assert.match(stdout, /was not done within 0\.05 s/);
    assert.deepEqual(await readdir(temporary), []);
    // The socket of its agent is an argument of a worker host.
    assert.deepEqual(processesNaming(temporary), []);
  });

  it('names an interpreter that cannot be used', async () => {
    await configure('pythonless', { python: '/bin/false' });
    const diagnosis = await doctor('pythonless', '--timeout', '60', '--only', 'python,python-task');
    assert.equal(diagnosis.code, 78);
    assert.deepEqual(named(diagnosis, 'failed'), ['python']);
    assert.match(reportOf(diagnosis, 'python').remedy ?? '', /Set python in .*config\.yaml/);
  });

  it('starts an interpreter in each execution environment that the settings name, and says which does not', async () => {
    const rules = {
      allow: [
        'module',
        'venv:/sw/*',
        'venv:/nonexistent/science',
        'apptainer:docker://python:3.11',
      ],
      map: { 'venv:/srv/science': { interpreter: '/usr/bin/python3' } },
    };
    await configure('contained', { environments: JSON.stringify(rules) });
    const only = ['--timeout', '60', '--only', 'environments'];
    const broken = await doctor('contained', ...only);
    assert.equal(broken.code, 78);
    const { found, details } = reportOf(broken, 'environments');
    assert.equal(found, 'venv /nonexistent/science: there is no such program');
    assert.deepEqual(details['not_looked_at'], ['module', 'venv:/sw/*']);
    const looks = details['looked_at'] as { name: string; verdict: string }[];
    assert.equal(looks.find(({ name }) => name.startsWith('apptainer'))?.verdict, 'skipped');
    assert.match(
      looks.find(({ name }) => name === 'venv /srv/science')?.verdict ?? '',
      /^(ok|warning)$/,
    );
  });

  it('names processes that an earlier run has left, and leaves them alone', async () => {
    const cookie = await agentCookie(directoryOf('pythonless'));
    const left = spawn('sleep', ['60'], { env: { OUTPOST_AGENT_COOKIE: cookie } });
    try {
      const { pid = 0 } = left;
      // Between fork and exec it has our own environment.
      await eventually(async () => {
        const diagnosis = await doctor('pythonless', '--only', 'leftovers');
        const { verdict, found } = reportOf(diagnosis, 'leftovers');
        assert.equal(verdict, 'warning');
        assert.match(found, new RegExp(`\\b${pid} \\(sleep\\)`));
      });
      assert.ok(isAlive(pid));
    } finally {
      left.kill('SIGKILL');
    }
  });

  it('makes only the checks that were named, and says which there are', async () => {
    assert.deepEqual((await doctor('default', '--only', 'node,disk')).checks.map(({ name }) => name), ['node', 'disk']); // prettier-ignore
    const wrong = await stack.agentCommand('doctor', '--only', 'nodes');
    assert.equal(wrong.code, 64);
    assert.match(wrong.stderr, /there is no check nodes\. There are: settings, /);
  });

  it('tells people each verdict and what to do', async () => {
    const { code, stdout } = await stack.agentCommand('doctor', 'lost', '--only', 'hub-tcp,node');
    assert.equal(code, 75);
    assert.match(stdout, /^ok {7}node {5}Node /m);
    assert.match(stdout, /^FAILED {3}hub-tcp {2}no connection to the hub/m);
    assert.match(stdout, /^ +→ Check that it runs/m);
    assert.match(stdout, /checks in .*: .* 1 failed, 0 skipped\.$/m);
  });

  it('writes an archive without secrets, tokens, arguments, results and what functions said', async () => {
    const { hubUrl, client: credentials } = stack;
    const client = new Client({ hubUrl, clientId: credentials.id, clientSecret: credentials.secret }); // prettier-ignore
    const registration = await readFile(join(directoryOf('default'), 'endpoint.json'), 'utf8');
    const [endpointId = ''] = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/.exec(registration) ?? [];
    const executor = new Executor({ client, endpointId });
    try {
      const speak = await client.registerPythonFunction(
        `def f(x):\n    print("${PRINTED}")\n    return "${RETURNED}"\n`,
      );
      const raise = await client.registerPythonFunction(`def f(x):\n    raise ValueError("${RAISED}")\n`); // prettier-ignore
      const die = await client.registerPythonFunction(
        `def f(x):\n    import os, sys\n    print("${PRINTED}", file=sys.stderr, flush=True)\n    os._exit(3)\n`,
      );
      await executor.submitToRegisteredFunction(speak, [ARGUMENT]);
      for (const failing of [raise, die]) {
        await assert.rejects(async () => await executor.submitToRegisteredFunction(failing, [ARGUMENT])); // prettier-ignore
      }
    } finally {
      await executor.shutdown();
    }
    const path = join(stack.home, 'report.tar.gz');
    const flags = ['--bundle', path, '--only', 'node,identity,broker-sign-in', '--timeout', '60'];
    assert.equal((await doctor('default', ...flags)).code, 0);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    const text = execFileSync('tar', ['xzOf', path], { encoding: 'latin1' });
    const list = execFileSync('tar', ['tzf', path], { encoding: 'utf8' });
    for (const name of [
      'doctor.json',
      'config.json',
      'status.json',
      'journal.json',
      'environment.json',
      'agent.log',
    ]) {
      // prettier-ignore
      assert.match(list, new RegExp(`^report/${name}$`, 'm'));
    }
    assert.match(text, /PROGRAM_KEY/);
    assert.match(text, /"hub_url"/);
    assert.match(text, /registered/);
    assert.ok(proxy.secrets.size >= 3, `${proxy.secrets.size} secrets went by`);
    const secrets = [credentials.secret, OPERATORS_KEY, ARGUMENT, PRINTED, RAISED, RETURNED, ...proxy.secrets]; // prettier-ignore
    const needles = secrets
      .filter(({ length }) => length > 7)
      .flatMap((secret) => [secret, btoa(secret), encodeURIComponent(secret)]);
    for (const needle of needles) {
      const at = text.indexOf(needle);
      assert.equal(at, -1, `…${text.slice(Math.max(0, at - 120), at)}[here]`);
    }
  });

  it('does not write over a file', async () => {
    const path = join(stack.home, 'report.tar.gz');
    const outcome = await stack.agentCommand('doctor', '--only', 'node', '--bundle', path);
    assert.equal(outcome.code, 75);
    assert.match(outcome.stderr, /it is there already/);
  });
});
