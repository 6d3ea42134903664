/**
 * Broker URLs: taking them apart and putting them together, so that amqplib, pika and a person read them alike.
 *
 * Always with an explicit port, because clients rewrite it by text (protocol.md 5.2), and never with a query, because
 * pika refuses arguments that it does not know.
 */
import { ConfigError } from '../../base/errors.ts';

/** A broker URL, without its credentials. */
export interface BrokerLocation {
  readonly protocol: 'amqp:' | 'amqps:';
  /** As in a URL: an IPv6 address has its brackets. */
  readonly hostname: string;
  readonly port: number;
  readonly vhost: string;
}

const DEFAULT_PORTS = { 'amqp:': 5672, 'amqps:': 5671 } as const;

/** Reads a broker URL. @throws ConfigError naming `setting`, never showing the password. */
export function parseBrokerLocation(text: string, setting: string): BrokerLocation {
  const expected = 'must be a URL such as amqps://user:password@broker.example.org:5671/vhost';
  const problem = (): ConfigError =>
    new ConfigError(`${setting} cannot be used`, [{ key: setting, source: 'settings', expected }]);
  if (!URL.canParse(text)) {
    throw problem();
  }
  const { protocol, hostname, port, pathname } = new URL(text);
  if ((protocol !== 'amqp:' && protocol !== 'amqps:') || hostname === '') {
    throw problem();
  }
  const path = pathname.slice(1);
  return {
    protocol,
    hostname,
    port: port === '' ? DEFAULT_PORTS[protocol] : Number(port),
    vhost: path === '' ? '/' : decodeURIComponent(path),
  };
}

/** Credentials of a broker user. */
export interface BrokerCredentials {
  readonly user: string;
  readonly password: string;
}

/** A URL to dial. */
export function connectionUrl(
  address: BrokerLocation,
  { user, password }: BrokerCredentials,
): string {
  const userInfo = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
  return `${address.protocol}//${userInfo}@${address.hostname}:${address.port}/${encodeURIComponent(address.vhost)}`;
}
