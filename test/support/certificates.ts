/** Certificate authorities and certificates of a test's own, made with openssl. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A certificate and its key as PEM files. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

function openssl(...args: readonly string[]): void {
  const run = spawnSync('openssl', args, { encoding: 'utf8' });
  assert.equal(run.status, 0, `openssl ${args.join(' ')}: ${run.error?.message ?? run.stderr}`);
}

/** An authority whose files lie in a directory. */
export class TestAuthority implements CertificateFiles {
  readonly cert: string;
  readonly key: string;
  readonly #directory: string;
  readonly #name: string;

  constructor(directory: string, name: string) {
    this.#directory = directory;
    this.#name = name;
    this.cert = join(directory, `${name}.pem`);
    this.key = join(directory, `${name}.key`);
    openssl(
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-subj', `/CN=${name}`, '-days', '2', '-keyout', this.key, '-out', this.cert],
    );
  }

  /** A certificate for names such as `IP:127.0.0.1` or `DNS:localhost`; `expired`: its time is over. */
  issue(
    name: string,
    subjectAltName: string,
    options: { readonly expired?: boolean } = {},
  ): CertificateFiles {
    const path = (ending: string): string => join(this.#directory, `${name}.${ending}`);
    writeFileSync(
      path('ext'),
      `subjectAltName=${subjectAltName}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n`,
    );
    openssl(
      ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-subj', `/CN=${name}`, '-keyout', path('key'), '-out', path('csr')],
    );
    if (options.expired === true) {
      this.#issueExpired(path);
    } else {
      openssl(
        ...['x509', '-req', '-in', path('csr'), '-CA', this.cert, '-CAkey', this.key],
        ...['-CAcreateserial', '-days', '1', '-extfile', path('ext'), '-out', path('pem')],
      );
    }
    // The servers of the packages run as users of their own. Keys of a test protect nothing.
    chmodSync(path('key'), 0o644);
    return { cert: path('pem'), key: path('key') };
  }

  /** `openssl x509` before 3.4 cannot set a date; `openssl ca` can. */
  #issueExpired(path: (ending: string) => string): void {
    const database = join(this.#directory, `${this.#name}.index`);
    writeFileSync(database, '');
    writeFileSync(
      path('cnf'),
      [
        '[ca]',
        'default_ca = test',
        '[test]',
        `database = ${database}`,
        `new_certs_dir = ${this.#directory}`,
        'rand_serial = yes',
        'default_md = sha256',
        'policy = any',
        '[any]',
        'commonName = supplied',
      ].join('\n'),
    );
    openssl(
      ...['ca', '-batch', '-notext', '-config', path('cnf'), '-cert', this.cert],
      ...['-keyfile', this.key, '-in', path('csr'), '-out', path('pem'), '-extfile', path('ext')],
      ...['-startdate', '20200101000000Z', '-enddate', '20200201000000Z'],
    );
  }
}
