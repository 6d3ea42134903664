/** The control socket: what commands ask of a running agent, and who may ask. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, stat, symlink } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { callControl } from '../../src/agent/control-client.ts';
import { controlSocketPath, startControlSocket } from '../../src/agent/control-socket.ts';
import type { ControlMethod, ControlSocket } from '../../src/agent/control-socket.ts';
import { AuthError, ConflictError } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';

describe('the path of a control socket', () => {
  it('is short, the same for one directory, and another for another', () => {
    const where = { endpointDir: '/home/ada/.outpost/x', runtimeDir: '/run/user/1000', uid: 1000 };
    const path = controlSocketPath(where);
    assert.match(path, /^\/run\/user\/1000\/outpost\/[0-9a-f]{16}\.sock$/);
    assert.equal(controlSocketPath({ ...where, endpointDir: '/home/ada/.outpost/x/' }), path);
    assert.notEqual(controlSocketPath({ ...where, endpointDir: '/home/ada/.outpost/y' }), path);
    const long = { ...where, endpointDir: `/${'d'.repeat(500)}`, runtimeDir: `/${'r'.repeat(90)}` };
    assert.match(controlSocketPath(long), /^\/tmp\/outpost-1000\/[0-9a-f]{16}\.sock$/);
    assert.match(controlSocketPath({ endpointDir: '/x', uid: 5 }), /^\/tmp\/outpost-5\//);
    assert.match(
      controlSocketPath({ endpointDir: '/x', runtimeDir: '', uid: 5 }),
      /^\/tmp\/outpost-5\//,
    );
  });
});

describe('the control socket', () => {
  let directory = '';
  let path = '';
  const sockets: ControlSocket[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'outpost-control-'));
    path = join(directory, 'sub', 'c.sock');
  });

  afterEach(async () => {
    for (const socket of sockets.splice(0)) {
      await socket.close();
    }
    await rm(directory, { recursive: true });
  });

  async function start(methods: Record<string, ControlMethod> = {}): Promise<ControlSocket> {
    const socket = await startControlSocket({
      path,
      methods: { echo: (params) => params, nothing: () => undefined, ...methods },
      logger: silentLogger,
    });
    sockets.push(socket);
    return socket;
  }

  it('answers, and only its owner may ask', async () => {
    await start();
    assert.deepEqual(await callControl(path, 'echo', { text: 'grüß', n: 1 }), {
      text: 'grüß',
      n: 1,
    });
    assert.equal(await callControl(path, 'nothing'), null);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.equal((await stat(join(directory, 'sub'))).mode & 0o777, 0o700);
  });

  it('carries an error with its class, code and exit status', async () => {
    await start({
      fail: () => {
        throw new AuthError('INVALID_CLIENT', 'the secret was refused', {
          details: { source: 'env' },
        });
      },
      crash: () => {
        throw new TypeError('oops');
      },
    });
    await assert.rejects(callControl(path, 'fail'), (error) => {
      assert.ok(error instanceof AuthError);
      assert.deepEqual(
        [error.code, error.message, error.exitCode, error.details],
        ['INVALID_CLIENT', 'the secret was refused', 77, { source: 'env' }],
      );
      return true;
    });
    await assert.rejects(callControl(path, 'crash'), /the agent failed to answer: oops/);
    await assert.rejects(callControl(path, 'unknown'), { code: 'USAGE' });
    await assert.rejects(callControl(path, 'toString'), { code: 'USAGE' });
  });

  it('says that no agent is running when nobody listens', async () => {
    await assert.rejects(callControl(path, 'echo'), { code: 'NOT_RUNNING' });
  });

  it('bounds how long a call waits', async () => {
    let release: (() => void) | undefined;
    await start({
      hang: async () => {
        await new Promise<void>((resolve) => {
          release = resolve;
        });
      },
    });
    await assert.rejects(callControl(path, 'hang', {}, { timeoutMs: 50 }), { code: 'TIMED_OUT' });
    release?.();
  });

  it('replaces the socket of an agent that was killed', async () => {
    await mkdir(join(directory, 'sub'), { mode: 0o700 });
    const program = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    const child = spawn(process.execPath, ['-e', program], { stdio: 'ignore' });
    await once(child, 'exit');
    assert.ok((await stat(path)).isSocket());
    await assert.rejects(callControl(path, 'echo'), { code: 'NOT_RUNNING' });
    await start();
    assert.deepEqual(await callControl(path, 'echo'), {});
  });

  it('refuses to start beside one that answers', async () => {
    await start();
    await assert.rejects(start(), (error) => {
      assert.ok(error instanceof ConflictError);
      assert.equal(error.code, 'ALREADY_RUNNING');
      return true;
    });
    assert.deepEqual(await callControl(path, 'echo'), {});
  });

  it('refuses a directory that is a link, and closes one that others can enter', async () => {
    await symlink(directory, join(directory, 'link'));
    await assert.rejects(
      startControlSocket({
        path: join(directory, 'link', 'c.sock'),
        methods: {},
        logger: silentLogger,
      }),
      { code: 'CONFIG_INVALID' },
    );
    await chmod(directory, 0o777);
    const open = await startControlSocket({
      path: join(directory, 'c.sock'),
      methods: {},
      logger: silentLogger,
    });
    sockets.push(open);
    assert.equal((await stat(directory)).mode & 0o777, 0o700);
  });

  it('serves many requests on one connection, in their order', async () => {
    await start();
    const socket = connect(path);
    const lines = Array.from({ length: 50 }, (_, id) =>
      JSON.stringify({ id, method: 'echo', params: { id } }),
    );
    socket.end(`${lines.join('\n')}\n`);
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    await once(socket, 'close');
    const ids = text
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { id: number }).id);
    assert.deepEqual(
      ids,
      lines.map((_, id) => id),
    );
  });

  it('answers what is no request with an error, and drops a peer whose line never ends', async () => {
    await start();
    for (const [sent, code] of [
      ['not json\n', 'USAGE'],
      ['[]\n', 'USAGE'],
      ['{"id":1,"method":"echo","params":[1]}\n', 'USAGE'],
      ['x'.repeat(5 * 1024 * 1024), 'PAYLOAD_TOO_LARGE'],
    ] as const) {
      const socket = connect(path);
      socket.on('error', () => {
        // The agent hangs up while we still write.
      });
      socket.write(sent);
      const [answer] = (await once(socket, 'data')) as [Buffer];
      assert.equal((JSON.parse(answer.toString()) as { error: { code: string } }).error.code, code);
      socket.destroy();
    }
    assert.deepEqual(await callControl(path, 'echo'), {});
  });

  it('finishes the answer at hand when it is closed, and leaves no file', async () => {
    let release: (() => void) | undefined;
    const socket = await start({
      slow: async () => {
        await new Promise<void>((resolve) => {
          release = resolve;
        });
        return 'done';
      },
    });
    const idle = connect(path);
    await once(idle, 'connect');
    idle.resume();
    const call = callControl(path, 'slow');
    while (release === undefined) {
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
    }
    const closed = socket.close();
    release();
    assert.equal(await call, 'done');
    await closed;
    await assert.rejects(stat(path), { code: 'ENOENT' });
    idle.destroy();
  });

  it('does not wait for ever for an answer when it is closed', async () => {
    const socket = await start({
      never: async () =>
        await new Promise<never>(() => {
          // Never answers.
        }),
    });
    const call = assert.rejects(callControl(path, 'never'), { code: 'START_FAILED' });
    await callControl(path, 'echo');
    const before = performance.now();
    await socket.close();
    assert.ok(performance.now() - before < 3000);
    await call;
  });

  it('tells a peer that the agent ended during the call', async () => {
    const server = createServer((socket) => socket.destroy());
    const other = join(directory, 'other.sock');
    server.listen(other);
    await once(server, 'listening');
    await assert.rejects(callControl(other, 'echo'), { code: 'START_FAILED' });
    server.close();
  });
});
