/**
 * Where logins of people are kept between programs: `$OUTPOST_HOME/logins.json`, one for each hub.
 *
 * It holds tokens: mode 0600, refused when others can read it, always replaced as a whole, and changed by one process at a time. Room for
 * a change is made before it begins: what the hub has granted and nobody could write down would be a lost login.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rename, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
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

/** What a change may add: the tokens of another hub. */
const ROOM_BYTES = 16 * 1024;

/** Why a file cannot be written that is no fault of ours. */
const UNWRITABLE = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EACCES', 'EPERM']);

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
  /** What was read last, and from which file: it is never written in place. */
  #last: { readonly mark: string; readonly contents: Contents } | undefined;

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
    try {
      await mkdir(dirname(this.path), { recursive: true, mode: 0o700 });
      return await withFileLock(`${this.path}.lock`, this.#clock, async () => {
        const contents = await this.#contents();
        const before = contents.hubs[hubUrl];
        return await this.#withDraft(contents, async (write) => {
          const after = await change(before);
          if (after !== before) {
            const others = Object.entries(contents.hubs).filter(([url]) => url !== hubUrl);
            const hubs = Object.fromEntries(
              after === undefined ? others : [...others, [hubUrl, after]],
            );
            await write({ version: 1, hubs });
          }
          return after;
        });
      });
    } catch (error) {
      const code = errorCode(error) ?? '';
      throw UNWRITABLE.has(code)
        ? this.#unusable(`it cannot be changed (${code}): make room, or see to its directory`)
        : error;
    }
  }

  async #contents(): Promise<Contents> {
    let text: string;
    let mark: string;
    try {
      const { mode, ino, size, mtimeNs } = await stat(this.path, { bigint: true });
      if ((mode & 0o077n) !== 0n) {
        throw this.#unusable(`others can read it; run: chmod 600 ${this.path}`);
      }
      mark = [ino, size, mtimeNs].join(' ');
      if (this.#last?.mark === mark) {
        return this.#last.contents;
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
    this.#last = { mark, contents };
    return contents;
  }

  /** Makes room beside the file, does the work, and puts what it writes in the place of the file. */
  async #withDraft<T>(
    contents: Contents,
    work: (write: (next: Contents) => Promise<void>) => Promise<T>,
  ): Promise<T> {
    const draft = `${this.path}.${randomUUID()}`;
    const handle = await open(draft, 'wx', 0o600);
    try {
      await writeWhole(handle, textOf(contents) + ' '.repeat(ROOM_BYTES));
      return await work(async (next) => {
        await writeWhole(handle, textOf(next));
        await rename(draft, this.path);
      });
    } finally {
      await handle.close();
      await removeIfThere(draft);
    }
  }

  #unusable(expected: string): ConfigError {
    return new ConfigError('the logins that are kept cannot be used', [
      { key: 'logins.json', source: this.path, expected },
    ]);
  }
}

function textOf(contents: Contents): string {
  return `${JSON.stringify(contents, undefined, 2)}\n`;
}

async function writeWhole(handle: FileHandle, text: string): Promise<void> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length;) {
    at += (await handle.write(bytes, at, bytes.length - at, at)).bytesWritten;
  }
  await handle.truncate(bytes.length);
  await handle.sync();
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
