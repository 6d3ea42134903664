/**
 * The address of a broker as an AMQP URL gives it, taken apart once: what to dial, and how messages may name it.
 *
 * `label` is host:port and nothing else, so that a message or a log line can never show the password.
 */
import type { Options } from 'amqplib';

import { UnavailableError } from '../../base/errors.ts';

const DEFAULT_PORT = { 'amqp:': 5672, 'amqps:': 5671 } as const;

/** A broker to dial. */
export interface BrokerAddress {
  /** host:port, safe to log. */
  readonly label: string;
  readonly user: string;
  /** Decoded; the default virtual host is "/". */
  readonly vhost: string;
  readonly connect: Options.Connect;
}

/**
 * Takes an amqp:// or amqps:// URL apart; user, password and virtual host are percent-decoded as UTF-8.
 *
 * @throws UnavailableError BROKER_UNREACHABLE for what is no such URL: nothing can be dialled there.
 */
export function parseBrokerUrl(url: string): BrokerAddress {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || (parsed.protocol !== 'amqp:' && parsed.protocol !== 'amqps:')) {
    throw malformed();
  }
  const hostname = parsed.hostname.replace(/^\[|\]$/g, '');
  if (hostname === '') {
    throw malformed();
  }
  const port = parsed.port === '' ? DEFAULT_PORT[parsed.protocol] : Number(parsed.port);
  const isAnonymous = parsed.username === '' && parsed.password === '';
  const user = isAnonymous ? 'guest' : decode(parsed.username);
  // amqplib decodes the virtual host of its option object once more, so that it has to be handed over encoded.
  const vhost = decode(parsed.pathname.slice(1));
  return {
    label: `${parsed.hostname}:${String(port)}`,
    user,
    vhost: vhost === '' ? '/' : vhost,
    connect: {
      protocol: parsed.protocol.slice(0, -1),
      hostname,
      port,
      username: user,
      password: isAnonymous ? 'guest' : decode(parsed.password),
      vhost: encodeURIComponent(vhost === '' ? '/' : vhost),
    },
  };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw malformed(error);
  }
}

/** Says nothing of the text itself: it may hold a password. */
function malformed(cause?: unknown): UnavailableError {
  return new UnavailableError(
    'BROKER_UNREACHABLE',
    'the address of the message broker is not a valid amqp:// or amqps:// URL (host missing, or a character that must be ' +
      'percent-encoded); the operator of the hub has to correct it (OUTPOST_AMQP_URL, OUTPOST_AMQP_PUBLIC_URL)',
    cause === undefined ? {} : { cause },
  );
}
