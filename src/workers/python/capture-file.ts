/**
 * Files that an interpreter's descriptors 1 and 2 point to. They have no name (unlinked at once), so nothing is left behind by
 * whoever is killed, and the host reads the tail of what a dead interpreter wrote through its own descriptor. One that an interpreter
 * opens itself, because no descriptor reaches it, has a name until that is done.
 */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NAME_PREFIX = '.outpost-output-';

/** A file in append mode: after truncation writers go on at its start. */
export class CaptureFile {
  readonly fd: number;
  /** Undefined: it has no name. */
  readonly path: string | undefined;
  readonly #directory: string;
  #isOpen = true;
  #wasCut = false;

  /** Without a directory the file gets no name. */
  constructor(namedIn?: string) {
    this.#directory = mkdtempSync(join(namedIn ?? tmpdir(), NAME_PREFIX));
    const path = join(this.#directory, 'output');
    this.path = namedIn === undefined ? undefined : path;
    try {
      this.fd = openSync(path, 'ax+', 0o600);
    } catch (error) {
      this.unlink();
      throw error;
    }
    if (namedIn === undefined) {
      this.unlink();
    }
  }

  /** Takes the file's name away. Idempotent. */
  unlink(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Whether {@link limit} dropped something since the last {@link clearCut}. */
  get wasCut(): boolean {
    return this.#wasCut;
  }

  /** Drops everything when more than `bytesMax` has been written: a disk must not fill up under a long task. */
  limit(bytesMax: number): void {
    if (this.#isOpen && fstatSync(this.fd).size > bytesMax) {
      ftruncateSync(this.fd, 0);
      this.#wasCut = true;
    }
  }

  /** Forgets that something was dropped. */
  clearCut(): void {
    this.#wasCut = false;
  }

  /** The last bytes that were written, as text. */
  tail(bytesMax: number): { text: string; truncated: boolean } {
    if (!this.#isOpen) {
      return { text: '', truncated: false };
    }
    const { size } = fstatSync(this.fd);
    const bytes = Buffer.alloc(Math.min(size, bytesMax));
    const read = readSync(this.fd, bytes, 0, bytes.length, Math.max(0, size - bytesMax));
    return { text: bytes.toString('utf8', 0, read), truncated: this.#wasCut || size > bytesMax };
  }

  /** Closes the host's descriptor. Idempotent. */
  close(): void {
    if (this.#isOpen) {
      this.#isOpen = false;
      closeSync(this.fd);
      if (this.path !== undefined) {
        this.unlink();
      }
    }
  }
}
