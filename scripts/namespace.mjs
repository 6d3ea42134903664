/**
 * A network of the tests' own: a namespace with nothing but loopback, so that port 5000 (the only one the unmodified SDK knows) is
 * always free, no test reaches the world, and two runs on one machine do not meet.
 *
 * Root takes `unshare --net`. Anybody else needs a user namespace in which they stay themselves (PostgreSQL refuses to run as
 * user 0), with capabilities just long enough to bring loopback up.
 */
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';

/** For a machine without `ip`: sets IFF_UP on `lo` (SIOCGIFFLAGS, SIOCSIFFLAGS). */
const LOOPBACK_UP_PYTHON = `
import fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
request = struct.pack('16sh14x', b'lo', 0)
flags = struct.unpack('16sh14x', fcntl.ioctl(s, 0x8913, request))[1]
fcntl.ioctl(s, 0x8914, struct.pack('16sh14x', b'lo', flags | 1))
`;
const LOOPBACK_UP = '{ ip link set lo up 2>/dev/null || /usr/bin/python3 -c "$0"; } && exec "$@"';

/** The words to put before a command so that it runs in a namespace, or the reason why there is none. */
export function namespacePrefix() {
  const isRoot = process.getuid?.() === 0;
  const unshare = isRoot ? ['unshare', '--net'] : ['unshare', '-c', '--net', '--keep-caps'];
  const dropCapabilities = isRoot ? [] : ['--inh-caps=-all', '--ambient-caps=-all'];
  const prefix = [
    ...unshare,
    ...['sh', '-c', LOOPBACK_UP, LOOPBACK_UP_PYTHON],
    ...['setpriv', '--pdeathsig=KILL', ...dropCapabilities, '--'],
  ];
  const [file, ...args] = [...prefix, 'true'];
  const trial = spawnSync(file, args, { encoding: 'utf8' });
  if (trial.status === 0) {
    return { prefix };
  }
  const reason = trial.error?.message ?? trial.stderr.trim();
  return { prefix: ['setpriv', '--pdeathsig=KILL', '--'], reason };
}

/** Whether a port of this host can be listened on. */
export async function isPortFree(port) {
  return await new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1' }, () => server.close(() => resolve(true)));
  });
}
