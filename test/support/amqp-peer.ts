/**
 * A scripted AMQP 0-9-1 peer: a small server that answers methods as a test says, or does not. It knows frames and the few
 * methods that a broker sends while a connection is opened and ended; a real broker is for the integration suite.
 */
import type { AddressInfo, Server, Socket } from 'node:net';
import { createServer as createTcpServer } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';

const FRAME_END = 0xce;
const PROTOCOL_HEADER_BYTES = 8;
const FRAME_HEADER_BYTES = 7;

/** Class and method, such as "10.11" for connection.start-ok; "header" for the protocol header, "content" for that of a message. */
type MethodName = string;

export interface PeerSocket {
  readonly socket: Socket;
  /** Arguments of each method received last, by its name. */
  readonly received: Map<MethodName, Buffer>;
  start: () => void;
  tune: (heartbeatS: number) => void;
  openOk: () => void;
  /** connection.close */
  closeConnection: (code: number, text: string) => void;
  closeOk: () => void;
  blocked: (reason: string) => void;
  unblocked: () => void;
  /** Any method without arguments that matter, on any channel. */
  reply: (channel: number, classId: number, methodId: number, args?: Buffer) => void;
  /** Raw bytes. */
  write: (bytes: Buffer | string) => void;
}

export interface AmqpPeer {
  readonly port: number;
  readonly sockets: Set<Socket>;
  close: () => Promise<void>;
}

export type PeerScript = (peer: PeerSocket, method: MethodName, channel: number) => void;

/** Answers what a broker answers: opens, closes, and sends no heartbeats. */
export function politeScript(heartbeatS = 0): PeerScript {
  return (peer, method) => {
    switch (method) {
      case 'header':
        peer.start();
        break;
      case '10.11':
        peer.tune(heartbeatS);
        break;
      case '10.40':
        peer.openOk();
        break;
      case '10.50':
        peer.closeOk();
        break;
      default:
        break;
    }
  };
}

/** A message that was published, as a scripted broker sees it. */
export interface PublishedToPeer {
  readonly channel: number;
  /** Number of the message on its channel. */
  readonly deliveryTag: number;
  readonly bytes: number;
  ack: () => void;
  nack: () => void;
  closeChannel: (code: number, text: string) => void;
}

/** Answers what a broker answers to one who consumes and publishes; what is published is a test's to settle. */
export function brokerScript(
  options: {
    readonly onPublish?: (message: PublishedToPeer, peer: PeerSocket) => void;
    /** What a passive declare of the queue finds; undefined never answers. */
    readonly queue?: () => { readonly messages: number; readonly consumers: number } | undefined;
    readonly onConsume?: () => void;
  } = {},
): PeerScript {
  const polite = politeScript();
  const published = new WeakMap<Socket, Map<number, number>>();
  const replies: Readonly<Record<MethodName, readonly [number, number, Buffer?]>> = {
    '20.10': [20, 11, Buffer.alloc(4)],
    '20.40': [20, 41],
    '60.10': [60, 11],
    '60.20': [60, 21, shortString('consumer')],
    '60.30': [60, 31, shortString('consumer')],
    '85.10': [85, 11],
  };
  return (peer, method, channel) => {
    const reply = replies[method];
    if (reply !== undefined) {
      peer.reply(channel, ...reply);
    }
    if (method === '60.20') {
      options.onConsume?.();
    }
    if (method === '50.10') {
      const found = options.queue?.();
      if (found !== undefined) {
        const counts = Buffer.alloc(8);
        counts.writeUInt32BE(found.messages, 0);
        counts.writeUInt32BE(found.consumers, 4);
        peer.reply(channel, 50, 11, Buffer.concat([shortString('q'), counts]));
      }
    }
    if (method === 'content') {
      const tags = published.get(peer.socket) ?? new Map<number, number>();
      published.set(peer.socket, tags);
      const deliveryTag = (tags.get(channel) ?? 0) + 1;
      tags.set(channel, deliveryTag);
      const tag = Buffer.alloc(9);
      tag.writeBigUInt64BE(BigInt(deliveryTag));
      options.onPublish?.(
        {
          channel,
          deliveryTag,
          bytes: Number(peer.received.get('content')?.readBigUInt64BE(4) ?? 0n),
          ack: () => {
            peer.reply(channel, 60, 80, tag);
          },
          nack: () => {
            peer.reply(channel, 60, 120, tag);
          },
          closeChannel: (code, text) => {
            peer.reply(
              channel,
              20,
              40,
              Buffer.concat([uint16(code), shortString(text), uint16(60), uint16(40)]),
            );
          },
        },
        peer,
      );
    }
    polite(peer, method, channel);
  };
}

function shortString(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

function longString(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function methodFrame(channel: number, classId: number, methodId: number, args: Buffer): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUInt8(1, 0);
  header.writeUInt16BE(channel, 1);
  header.writeUInt32BE(4 + args.length, 3);
  return Buffer.concat([header, uint16(classId), uint16(methodId), args, Buffer.from([FRAME_END])]);
}

function peerSocket(socket: Socket): PeerSocket {
  const write = (bytes: Buffer | string): void => {
    socket.write(bytes);
  };
  const send = (methodId: number, ...args: Buffer[]): void => {
    write(methodFrame(0, 10, methodId, Buffer.concat(args)));
  };
  return {
    socket,
    received: new Map(),
    start: () => {
      send(10, Buffer.from([0, 9]), Buffer.alloc(4), longString('PLAIN'), longString('en_US'));
    },
    tune: (heartbeatS) => {
      send(30, uint16(2047), Buffer.from([0, 2, 0, 0]), uint16(heartbeatS));
    },
    openOk: () => {
      send(41, shortString(''));
    },
    closeConnection: (code, text) => {
      send(50, uint16(code), shortString(text), uint16(0), uint16(0));
    },
    closeOk: () => {
      send(51);
    },
    blocked: (reason) => {
      send(60, shortString(reason));
    },
    unblocked: () => {
      send(61);
    },
    reply: (channel, classId, methodId, args = Buffer.alloc(0)) => {
      write(methodFrame(channel, classId, methodId, args));
    },
    write,
  };
}

/** Starts a peer; with `tls` it speaks TLS. `onConnect` comes before any byte was read. */
export async function startAmqpPeer(
  script: PeerScript,
  options: {
    readonly onConnect?: (peer: PeerSocket) => void;
    readonly tls?: { readonly cert: string; readonly key: string };
  } = {},
): Promise<AmqpPeer> {
  const sockets = new Set<Socket>();
  const accept = (socket: Socket): void => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // A client that resets is what some tests do.
    socket.on('error', () => undefined);
    const peer = peerSocket(socket);
    options.onConnect?.(peer);
    let rest = Buffer.alloc(0);
    let isHeaderRead = false;
    socket.on('data', (chunk) => {
      rest = Buffer.concat([rest, chunk]);
      if (!isHeaderRead && rest.length >= PROTOCOL_HEADER_BYTES) {
        isHeaderRead = true;
        rest = rest.subarray(PROTOCOL_HEADER_BYTES);
        script(peer, 'header', 0);
      }
      while (isHeaderRead && rest.length >= FRAME_HEADER_BYTES) {
        const size = rest.readUInt32BE(3);
        if (rest.length < FRAME_HEADER_BYTES + size + 1) {
          break;
        }
        const payload = rest.subarray(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + size);
        if (rest.readUInt8(0) === 1) {
          const method = `${String(payload.readUInt16BE(0))}.${String(payload.readUInt16BE(2))}`;
          peer.received.set(method, Buffer.from(payload.subarray(4)));
          script(peer, method, rest.readUInt16BE(1));
        } else if (rest.readUInt8(0) === 2) {
          peer.received.set('content', Buffer.from(payload));
          script(peer, 'content', rest.readUInt16BE(1));
        }
        rest = rest.subarray(FRAME_HEADER_BYTES + size + 1);
      }
    });
  };
  const server: Server =
    options.tls === undefined ? createTcpServer(accept) : createTlsServer(options.tls, accept);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    close: async () => {
      for (const socket of sockets) {
        socket.destroy();
      }
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
      });
    },
  };
}
