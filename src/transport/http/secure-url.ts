/**
 * Plain http is refused except on loopback: the first request would hand the client secret to the network.
 */
import { ConfigError } from '../../base/errors.ts';

/** Whether a host name of a URL means this machine. */
export function isLoopback(hostname: string): boolean {
  const host = hostname.toLowerCase();
  return (
    host === 'localhost' ||
    host.endsWith('.localhost') ||
    host === '[::1]' ||
    /^127(?:\.\d{1,3}){3}$/.test(host)
  );
}

/**
 * Parses the URL of a server that credentials are sent to.
 *
 * @throws ConfigError when it is not a URL, carries credentials of its own, or is plain http to another machine.
 */
export function parseServerUrl(text: string, setting: string): URL {
  const problem = (expected: string, value: string = text): ConfigError =>
    new ConfigError(`${setting} cannot be used`, [
      { key: setting, source: 'settings', value, expected },
    ]);
  if (!URL.canParse(text)) {
    throw problem('must be a URL such as https://hub.example.org');
  }
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    const value = `${url.protocol}//…@${url.host}${url.pathname}`;
    throw problem('must not contain a user or password; use a client id and secret', value);
  }
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    throw problem(
      'plain http would show the client secret to the network and is accepted only for this machine (localhost); ' +
        'use https, or reach the hub through a local tunnel',
    );
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw problem('must start with https:// (or http://localhost)');
  }
  return url;
}
