/**
 * Where something of ours listens on this machine: `host:port` on loopback, or the absolute path of a Unix socket. Never an
 * address that another machine can reach: what listens here asks for no password.
 */
import type { Reading } from './reading.ts';

/** What an address to listen on looks like. */
export const LISTEN_EXPECTATION =
  'an address of this machine with a port (127.0.0.1:9464), or the absolute path of a Unix socket';

/** The kernel cuts longer paths of Unix sockets off, silently. */
const SOCKET_PATH_BYTES_MAX = 107;

/** An address to listen on. */
export type ListenAddress =
  { readonly host: string; readonly port: number } | { readonly path: string };

/** Reads the value of an option as an address to listen on; the value stays the text. */
export function readListenAddress(raw: unknown): Reading<string> {
  if (typeof raw !== 'string') {
    return { expected: LISTEN_EXPECTATION };
  }
  if (raw.startsWith('/')) {
    if (raw.includes('\0')) {
      return { expected: LISTEN_EXPECTATION };
    }
    return Buffer.byteLength(raw) <= SOCKET_PATH_BYTES_MAX
      ? { value: raw }
      : { expected: `a path of at most ${SOCKET_PATH_BYTES_MAX} bytes, where Unix sockets end` };
  }
  const address = parseHostAndPort(raw);
  if (address === undefined) {
    return { expected: LISTEN_EXPECTATION };
  }
  return isLoopback(address.host)
    ? { value: raw }
    : { expected: `${LISTEN_EXPECTATION}; another machine could read it there` };
}

/** The parts of an address that {@link readListenAddress} has accepted. */
export function parseListenAddress(text: string): ListenAddress {
  const address = parseHostAndPort(text);
  return address === undefined
    ? { path: text }
    : { ...address, host: address.host.replaceAll(/[[\]]/g, '') };
}

/** Whether a host name, as in a URL, is this machine. */
export function isLoopback(hostname: string): boolean {
  return (
    hostname === 'localhost' ||
    hostname.endsWith('.localhost') ||
    hostname === '[::1]' ||
    /^127(\.\d{1,3}){3}$/.test(hostname)
  );
}

function parseHostAndPort(text: string): { host: string; port: number } | undefined {
  const parts = /^(?<host>[^\s/:]+|\[[0-9a-f:]+\]):(?<port>\d{1,5})$/i.exec(text)?.groups;
  const port = Number(parts?.['port']);
  const host = parts?.['host'];
  return host === undefined || port > 65_535 ? undefined : { host, port };
}
