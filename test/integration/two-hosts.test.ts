/**
 * Hub and agent on different hosts, with TLS everywhere: RabbitMQ, its management API, PostgreSQL and the hub on one, agent, SDK and
 * `hub tunnel` on the other. The hosts are network namespaces; the certificates are the test's own, of two authorities.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import pg from 'pg';

import { systemClock } from '../../src/base/clock.ts';
import { errorText } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { startPrivateServers } from '../../src/hub/dev/private-servers.ts';
import type { PrivateServers } from '../../src/hub/dev/private-servers.ts';
import { Client, Executor } from '../../src/sdk/index.ts';
import { TestAuthority } from '../support/certificates.ts';
import type { CertificateFiles } from '../support/certificates.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { NetworkNamespace } from '../support/network-namespace.ts';
import { runProgram } from '../support/stack.ts';
import type { ClientCredentials, CommandOutcome } from '../support/stack.ts';

const CLI = fileURLToPath(new URL('../../src/cli/', import.meta.url));
const SDK = new URL('../../src/sdk/index.js', import.meta.url).href;
const BROKER_PORT = 5671;

const NODE_PROGRAM = `
import { Client, Executor } from '${SDK}';
const client = new Client();
const executor = new Executor({ client, endpointId: process.env.ENDPOINT_ID });
const double = await client.registerPythonFunction('def double(x):\\n    return 2 * x\\n');
const [sum, twice] = await Promise.all([
  executor.submit((a, b) => a + b, 20, 22),
  executor.submitToRegisteredFunction(double, [21]),
]);
await executor.shutdown();
console.log(JSON.stringify({ sum, twice }));
`;

const PYTHON_PROGRAM = `
import json, os
from globus_compute_sdk import Client, Executor

def add(a, b):
    return a + b

endpoint = os.environ["ENDPOINT_ID"]
with Executor(endpoint_id=endpoint) as gcx:
    futures = [gcx.submit(add, n, 1) for n in range(20)]
    big = gcx.submit(len, "x" * 3_000_000)
    values = [future.result(timeout=60) for future in futures]
    print(json.dumps({"values": values, "big": big.result(timeout=60)}))
print(Client().get_endpoint_status(endpoint)["status"])
`;

/** Both hosts and what runs on them. */
class TwoHosts {
  readonly directory: string;
  readonly other: NetworkNamespace;
  readonly servers: PrivateServers;
  readonly hubUrl: string;
  /** Both authorities in one file, and that of the hub alone. */
  readonly caFile: string;
  readonly hubCaFile: string;
  readonly #environment: NodeJS.ProcessEnv;
  client: ClientCredentials = { id: '', secret: '' };
  #hub: ChildProcess | undefined;

  private constructor(
    directory: string,
    other: NetworkNamespace,
    servers: PrivateServers,
    environment: NodeJS.ProcessEnv,
  ) {
    this.directory = directory;
    this.other = other;
    this.servers = servers;
    this.#environment = environment;
    this.hubUrl = `https://${other.address}:${environment['OUTPOST_HUB_PORT'] ?? ''}`;
    this.caFile = join(directory, 'both.pem');
    this.hubCaFile = join(directory, 'Hub Authority.pem');
  }

  static async start(other: NetworkNamespace): Promise<TwoHosts> {
    const directory = await mkdtemp(join(tmpdir(), 'outpost-two-hosts-'));
    chmodSync(directory, 0o755);
    const [hubAuthority, authority] = ['Hub Authority', 'Broker Authority'].map(
      (name) => new TestAuthority(directory, name),
    );
    assert.ok(hubAuthority !== undefined && authority !== undefined);
    const { address } = other;
    const hubFiles = hubAuthority.issue('hub', `IP:${address}`);
    const files = authority.issue('services', `IP:${address},IP:127.0.0.1`);
    const both = [hubAuthority, authority].map(({ cert }) => readFileSync(cert, 'utf8')).join('');
    writeFileSync(join(directory, 'both.pem'), both);
    hubAuthority.issue('expired', `IP:${address}`, { expired: true });

    const [ownPort, managementPort, hubPort] = [
      await freePort(),
      await freePort(),
      await freePort(),
    ];
    const servers = await startPrivateServers({
      dataDir: join(directory, 'servers'),
      clock: systemClock,
      logger: silentLogger,
      brokerSettings: [
        `listeners.ssl.1 = ${address}:${BROKER_PORT}`,
        `listeners.ssl.2 = 127.0.0.1:${ownPort}`,
        ...tlsSettings('ssl_options', authority, files),
        'management.ssl.ip = 127.0.0.1',
        `management.ssl.port = ${managementPort}`,
        ...tlsSettings('management.ssl', authority, files),
      ],
    });
    await turnDatabaseToTls(servers, files);
    const amqp = new URL(servers.amqpUrl);
    const home = join(directory, 'home');
    const hosts = new TwoHosts(directory, other, servers, {
      PATH: process.env['PATH'],
      HOME: directory,
      LANG: 'C.UTF-8',
      TMPDIR: tmpdir(),
      OUTPOST_HOME: home,
      OUTPOST_AMQP_URL: `amqps://${amqp.username}:${amqp.password}@127.0.0.1:${ownPort}/%2F`,
      OUTPOST_AMQP_PUBLIC_URL: `amqps://${address}:${BROKER_PORT}`,
      OUTPOST_AMQP_MANAGEMENT_URL: `https://${amqp.username}:${amqp.password}@127.0.0.1:${managementPort}`,
      OUTPOST_DATABASE_URL: `${servers.databaseUrl}?sslmode=verify-full`,
      OUTPOST_CA_FILE: join(directory, 'both.pem'),
      OUTPOST_HUB_HOST: address,
      OUTPOST_HUB_PORT: String(hubPort),
      OUTPOST_HUB_URL: `https://${address}:${hubPort}`,
      OUTPOST_HUB_TLS_CERT_FILE: hubFiles.cert,
      OUTPOST_HUB_TLS_KEY_FILE: hubFiles.key,
    });
    try {
      await hosts.#startHub();
    } catch (error) {
      await hosts.stop();
      throw error;
    }
    return hosts;
  }

  async hubCommand(...args: string[]): Promise<CommandOutcome> {
    return await runProgram(process.execPath, [join(CLI, 'hub.js'), ...args], {
      env: this.#environment,
    });
  }

  /** Runs a program on the other host, which knows nothing of the hub's settings. */
  async there(
    program: string,
    args: readonly string[],
    environment: NodeJS.ProcessEnv = {},
  ): Promise<CommandOutcome> {
    const [file, all] = this.other.command(program, ...args);
    const env = { ...this.otherEnvironment, ...environment };
    return await runProgram(file, all, { env, cwd: this.directory, limitMs: 120_000 });
  }

  get otherEnvironment(): NodeJS.ProcessEnv {
    const names = ['PATH', 'LANG', 'TMPDIR', 'OUTPOST_HOME', 'HOME'];
    return Object.fromEntries(names.map((name) => [name, this.#environment[name]]));
  }

  async agent(...args: string[]): Promise<CommandOutcome> {
    return await this.there(process.execPath, [join(CLI, 'agent.js'), ...args]);
  }

  async configure(name: string, ...flags: string[]): Promise<void> {
    const secretFile = join(this.directory, 'secret');
    writeFileSync(secretFile, this.client.secret, { mode: 0o600 });
    const outcome = await this.agent(
      ...['configure', name, '--client-id', this.client.id, '--client-secret-file', secretFile],
      ...['--python', process.env['OUTPOST_TEST_DILL_PYTHON'] ?? '/usr/bin/python3'],
      ...['--heartbeat-period-s', '1', '--hub-url', this.hubUrl, ...flags],
    );
    assert.equal(outcome.code, 0, outcome.stderr);
  }

  async stop(): Promise<void> {
    const hub = this.#hub;
    if (hub?.exitCode === null && hub.signalCode === null) {
      const ended = once(hub, 'exit');
      hub.kill('SIGTERM');
      await ended;
    }
    await this.servers.stop({ fast: true });
    await rm(this.directory, { recursive: true, force: true });
  }

  async #startHub(): Promise<void> {
    const hub = spawn(process.execPath, [join(CLI, 'hub.js'), 'start'], {
      env: this.#environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#hub = hub;
    let said = '';
    hub.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    hub.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    await eventually(() => {
      assert.equal(hub.exitCode, null, `the hub ended: ${said}`);
      assert.match(said, /hub is ready at https:/);
    });
    const status = await this.hubCommand('status', '--json');
    assert.equal(status.code, 0, `${status.stdout}${status.stderr}`);
    const created = await this.hubCommand('client', 'create', 'tester', '--json');
    assert.equal(created.code, 0, created.stderr);
    const client = JSON.parse(created.stdout) as { client_id: string; client_secret: string };
    this.client = { id: client.client_id, secret: client.client_secret };
  }
}

function tlsSettings(
  prefix: string,
  authority: CertificateFiles,
  files: CertificateFiles,
): string[] {
  return [
    `${prefix}.cacertfile = ${authority.cert}`,
    `${prefix}.certfile = ${files.cert}`,
    `${prefix}.keyfile = ${files.key}`,
  ];
}

/** The key must be its own, and yours alone, or it does not start to speak TLS. */
async function turnDatabaseToTls(servers: PrivateServers, files: CertificateFiles): Promise<void> {
  const data = join(servers.dataDirectory, 'postgresql', 'data');
  const { uid, gid } = statSync(data);
  for (const [from, name] of [
    [files.cert, 'server.crt'],
    [files.key, 'server.key'],
  ] as const) {
    copyFileSync(from, join(data, name));
    chownSync(join(data, name), uid, gid);
    chmodSync(join(data, name), 0o600);
  }
  const client = new pg.Client({ connectionString: servers.databaseUrl });
  await client.connect();
  try {
    await client.query('alter system set ssl = on');
    await client.query('select pg_reload_conf()');
  } finally {
    await client.end();
  }
}

describe('hub and agent on two hosts', function () {
  this.timeout(180_000);
  let other: NetworkNamespace | undefined;
  let hosts: TwoHosts;
  let endpointId = '';

  before(async function () {
    try {
      other = await NetworkNamespace.open();
    } catch (error) {
      // Counted by the reporter as pending, with this reason.
      const reason = errorText(error).split('\n')[0] ?? '';
      for (const test of this.test?.parent?.tests ?? []) {
        test.title += ` (no second network namespace, which takes root and iproute2: ${reason})`;
      }
      this.skip();
    }
    hosts = await TwoHosts.start(other);
    await hosts.configure('default', '--ca-file', hosts.caFile);
    const started = await hosts.agent('start', 'default', '--json');
    assert.equal(started.code, 0, `${started.stdout}${started.stderr}`);
    endpointId = (JSON.parse(started.stdout) as { endpoint_id: string }).endpoint_id;
  });

  after(async () => {
    if (endpointId !== '') {
      await hosts.agent('stop', 'default');
    }
    await (hosts as TwoHosts | undefined)?.stop();
    await other?.close();
  });

  function sdkEnvironment(): NodeJS.ProcessEnv {
    return {
      ENDPOINT_ID: endpointId,
      OUTPOST_HUB_URL: hosts.hubUrl,
      OUTPOST_CA_FILE: hosts.caFile,
      OUTPOST_CLIENT_ID: hosts.client.id,
      OUTPOST_CLIENT_SECRET: hosts.client.secret,
    };
  }

  function client(): Client {
    return new Client({ environment: sdkEnvironment() });
  }

  it('encrypts every connection of the hub to its database', async () => {
    const admin = new pg.Client({ connectionString: hosts.servers.databaseUrl });
    await admin.connect();
    try {
      const { rows } = await admin.query<{ ssl: boolean }>(
        "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'outpost-hub'",
      );
      assert.ok(rows.length > 0);
      assert.ok(rows.every(({ ssl }) => ssl));
    } finally {
      await admin.end();
    }
  });

  it('runs JavaScript and Python functions', async () => {
    const program = ['--input-type=module', '-e', NODE_PROGRAM];
    const run = await hosts.there(process.execPath, program, sdkEnvironment());
    assert.equal(run.code, 0, run.stderr);
    assert.deepEqual(JSON.parse(run.stdout), { sum: 42, twice: 42 });
  });

  it('tells at `agent start` that the authority of the hub is not trusted', async () => {
    await hosts.configure('stranger');
    const outcome = await hosts.agent('start', 'stranger', '--json');
    assert.equal(outcome.code, 75, outcome.stdout + outcome.stderr);
    const { error } = JSON.parse(outcome.stdout) as { error: { code: string; message: string } };
    assert.equal(error.code, 'CERTIFICATE_REFUSED');
    assert.match(error.message, /the hub at .*"CN=hub" is signed by "CN=Hub Authority"/);
    assert.match(error.message, /Set OUTPOST_CA_FILE \(ca_file of an agent\)/);
  });

  it('tells at `agent start` that the authority of the broker is not trusted', async () => {
    await hosts.configure('half', '--ca-file', hosts.hubCaFile);
    const outcome = await hosts.agent('start', 'half', '--timeout', '15');
    assert.equal(outcome.code, 75, outcome.stdout + outcome.stderr);
    assert.match(
      outcome.stderr,
      /the broker at .*"CN=services" is signed by "CN=Broker Authority"/,
    );
    assert.equal((await hosts.agent('stop', 'half')).code, 0);
  });

  it('tells at `agent start` that the certificate of the hub has expired', async () => {
    const identity = {
      cert: readFileSync(join(hosts.directory, 'expired.pem')),
      key: readFileSync(join(hosts.directory, 'expired.key')),
    };
    const server = createServer(identity).listen(0, hosts.other.address);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    try {
      const url = `https://${hosts.other.address}:${port}`;
      await hosts.configure('late', '--ca-file', hosts.caFile, '--hub-url', url);
      const outcome = await hosts.agent('start', 'late');
      assert.equal(outcome.code, 75, outcome.stdout + outcome.stderr);
      assert.match(outcome.stderr, /"CN=expired" expired on Feb {2}1 00:00:00 2020/);
    } finally {
      server.close();
    }
  });

  it('tells at `agent configure` that a file holds no authority', async () => {
    const path = join(hosts.directory, 'secret');
    const outcome = await hosts.agent('configure', 'wrong', '--ca-file', path);
    assert.equal(outcome.code, 78);
    assert.match(
      outcome.stderr,
      /ca_file \(--ca-file\) = .*secret: expected a file with certificates/,
    );
  });

  describe('with the unmodified Globus SDK', () => {
    let tunnel: ChildProcess | undefined;

    before(async function () {
      if ((process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '') === '') {
        for (const test of this.test?.parent?.tests ?? []) {
          test.title += ' (OUTPOST_TEST_SDK_PYTHON names no environment with globus-compute-sdk)';
        }
        this.skip();
      }
      const args = ['tunnel', hosts.hubUrl, '--ca', hosts.caFile, '--json'];
      const [file, all] = hosts.other.command(process.execPath, join(CLI, 'hub.js'), ...args);
      const started = spawn(file, all, {
        env: hosts.otherEnvironment,
        cwd: hosts.directory,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      tunnel = started;
      let said = '';
      started.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
      await eventually(() => {
        assert.equal(started.exitCode, null);
        assert.match(said, /"url": "http:\/\/localhost:5000"/);
      });
    });

    after(() => {
      tunnel?.kill('SIGKILL');
    });

    it('gets results by its Executor through `hub tunnel`', async () => {
      const script = join(hosts.directory, 'program.py');
      writeFileSync(script, PYTHON_PROGRAM);
      const run = await hosts.there(process.env['OUTPOST_TEST_SDK_PYTHON'] ?? '', [script], {
        GLOBUS_SDK_ENVIRONMENT: 'local',
        GLOBUS_SDK_SERVICE_URL_AUTH: 'http://localhost:5000/',
        GLOBUS_COMPUTE_CLIENT_ID: hosts.client.id,
        GLOBUS_COMPUTE_CLIENT_SECRET: hosts.client.secret,
        ENDPOINT_ID: endpointId,
      });
      assert.equal(run.code, 0, run.stderr);
      const [results, status] = run.stdout.trim().split('\n');
      assert.deepEqual(JSON.parse(results ?? ''), {
        values: Array.from({ length: 20 }, (_, n) => n + 1),
        big: 3_000_000,
      });
      assert.equal(status, 'online');
    });

    it('is left without a tunnel in order when that is told to end', async () => {
      assert.ok(tunnel !== undefined);
      const ended = once(tunnel, 'exit');
      tunnel.kill('SIGTERM');
      assert.deepEqual(await ended, [0, null]);
    });
  });

  it('loses nothing when the link between them is cut for a while', async () => {
    const executor = new Executor({ client: client(), endpointId });
    const observer = client();
    const status = async (): Promise<string> =>
      (await observer.getEndpointStatus(endpointId)).status;
    const work = async (n: number): Promise<number> => {
      await new Promise((resolve) => {
        setTimeout(resolve, 100);
      });
      return n;
    };
    const before = Array.from({ length: 40 }, (_, n) => executor.submit(work, n));
    await before[0];
    hosts.other.link('down');
    let during;
    try {
      await eventually(async () => {
        assert.equal(await status(), 'offline');
      });
      during = Array.from({ length: 10 }, (_, n) => executor.submit(work, 100 + n));
      await eventually(async () => {
        const { stdout } = await hosts.agent('status', 'default', '--json');
        assert.match(stdout, /"state": "offline"/);
      }, 60_000);
    } finally {
      hosts.other.link('up');
    }
    assert.deepEqual(await Promise.all([...before, ...during]), [
      ...before.keys(),
      ...Array.from(during.keys(), (n) => 100 + n),
    ]);
    await eventually(async () => {
      assert.equal(await status(), 'online');
    });
    await executor.shutdown();
  });
});
