/**
 * Where logins of people are kept between programs: `$OUTPOST_HOME/logins.json`, one for each hub.
 *
 * It holds tokens: mode 0600, refused when others can read it, always replaced as a whole, and changed by one process at a time.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rename, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';

import type { Clock } from '../../base/clock.ts';
import { ConfigError, errorCode } from '../../base/errors.ts';
import { removeIfThere } from '../../base/remove-file.ts';
import type { Environment } from '../environment.ts';
import { withFileLock } from './file-lock.ts';

/** A token as it is kept. */
export interface StoredToken {
  readonly scope: string;
  readonly accessToken: string;
  readonly refreshToken: string;
  /** Milliseconds since the Unix epoch. */
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
}

/** Somebody who signed in. */
export interface StoredLogin {
  readonly appId: string;
  readonly identity: {
    readonly id: string;
    readonly username: string;
    readonly name: string;
  };
  readonly tokens: readonly StoredToken[];
}

interface Contents {
  readonly version: 1;
  readonly hubs: Readonly<Record<string, StoredLogin>>;
}

const EMPTY: Contents = { version: 1, hubs: {} };

/** The file of the user whose environment this is. @throws ConfigError when OUTPOST_HOME is relative. */
export function loginFilePath(environment: Environment): string {
  const home = environment['OUTPOST_HOME'] ?? '';
  if (home !== '' && !isAbsolute(home)) {
    throw new ConfigError('The state directory cannot be used', [
      {
        key: 'OUTPOST_HOME',
        source: 'environment',
        value: home,
        expected: 'expected an absolute path',
      },
    ]);
  }
  return join(home === '' ? join(homedir(), '.outpost') : home, 'logins.json');
}

/** Reads and changes the file. */
export class LoginFile {
  readonly path: string;
  readonly #clock: Clock;

  constructor(path: string, clock: Clock) {
    this.path = path;
    this.#clock = clock;
  }

  /** Who is signed in at a hub. @throws ConfigError when the file cannot be used. */
  async read(hubUrl: string): Promise<StoredLogin | undefined> {
    return (await this.#contents()).hubs[hubUrl];
  }

  /**
   * Changes what is kept for a hub, while no other process does: `change` gets what stands there and returns what is to stand there,
   * undefined for nothing.
   */
  async update(
    hubUrl: string,
    change: (login: StoredLogin | undefined) => Promise<StoredLogin | undefined>,
  ): Promise<StoredLogin | undefined> {
    await mkdir(dirname(this.path), { recursive: true, mode: 0o700 });
    return await withFileLock(`${this.path}.lock`, this.#clock, async () => {
      const contents = await this.#contents();
      const before = contents.hubs[hubUrl];
      const after = await change(before);
      if (after !== before) {
        const others = Object.entries(contents.hubs).filter(([url]) => url !== hubUrl);
        const hubs = Object.fromEntries(
          after === undefined ? others : [...others, [hubUrl, after]],
        );
        await this.#replace({ version: 1, hubs });
      }
      return after;
    });
  }

  async #contents(): Promise<Contents> {
    let text: string;
    try {
      const { mode } = await stat(this.path);
      if ((mode & 0o077) !== 0) {
        throw this.#unusable(`others can read it; run: chmod 600 ${this.path}`);
      }
      text = await readFile(this.path, 'utf8');
    } catch (error) {
      if (errorCode(error) === 'ENOENT') {
        return EMPTY;
      }
      throw error;
    }
    const contents = parse(text);
    if (contents === undefined) {
      throw this.#unusable(
        'it is damaged, or of a newer version; remove it and sign in again with: agent login',
      );
    }
    return contents;
  }

  async #replace(contents: Contents): Promise<void> {
    const draft = `${this.path}.${randomUUID()}`;
    try {
      const handle = await open(draft, 'wx', 0o600);
      try {
        await handle.writeFile(`${JSON.stringify(contents, undefined, 2)}\n`);
        // The server has forgotten the refresh token before this one: half a file would be a lost login.
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(draft, this.path);
    } catch (error) {
      await removeIfThere(draft);
      throw error;
    }
  }

  #unusable(expected: string): ConfigError {
    return new ConfigError('the logins that are kept cannot be used', [
      { key: 'logins.json', source: this.path, expected },
    ]);
  }
}

function parse(text: string): Contents | undefined {
  try {
    const value = JSON.parse(text) as Partial<Record<keyof Contents, unknown>> | null;
    return value?.version === 1 && typeof value.hubs === 'object' && value.hubs !== null
      ? (value as Contents)
      : undefined;
  } catch {
    // The caller says what to do.
    return undefined;
  }
}
