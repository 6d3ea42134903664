/**
 * A TCP port that nobody listens on, for a server that must be told its port, and for a client that must find nobody.
 *
 * Not one that the kernel hands out for connections: such a port may be in use by somebody's connection a moment later, and a client
 * that dials one that is closed may even meet itself.
 */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

const PORT_MIN = 20_000;
/** Below the first port of net.ipv4.ip_local_port_range. */
const PORT_MAX = 32_000;

/** Returns a port that could be listened on just now. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORT_MIN, PORT_MAX);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => {
        resolve(false);
      });
      server.listen(port, '127.0.0.1', () => {
        resolve(true);
      });
    });
    if (isFree) {
      server.close();
      await once(server, 'close');
      return port;
    }
  }
}
