/**
 * Writes a tar archive (POSIX ustar) of a few small texts, gzipped: fields of fixed width and blocks of 512 bytes, for which a package
 * with six dependencies of its own would be too much.
 */
import { gzipSync } from 'node:zlib';

import { invariant } from '../../../base/errors.ts';

const BLOCK_BYTES = 512;
const NAME_BYTES_MAX = 100;

/** A file in the archive. */
export interface ArchiveFile {
  readonly name: string;
  readonly text: string;
}

/** The archive. All files are the owner's alone, from `atMs`. */
export function packArchive(files: readonly ArchiveFile[], atMs: number): Buffer {
  const blocks = files.flatMap(({ name, text }) => {
    const body = Buffer.from(text, 'utf8');
    const padding = Buffer.alloc((BLOCK_BYTES - (body.length % BLOCK_BYTES)) % BLOCK_BYTES);
    return [header(name, body.length, atMs), body, padding];
  });
  // Two empty blocks are the end.
  return gzipSync(Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK_BYTES)]));
}

function header(name: string, bytes: number, atMs: number): Buffer {
  invariant(Buffer.byteLength(name) <= NAME_BYTES_MAX, 'a name in the archive is too long');
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, width: number, offset: number): void => {
    block.write(`${value.toString(8).padStart(width - 1, '0')}\0`, offset, 'latin1');
  };
  block.write(name, 0, 'utf8');
  octal(0o600, 8, 100);
  octal(0, 8, 108);
  octal(0, 8, 116);
  octal(bytes, 12, 124);
  octal(Math.floor(atMs / 1000), 12, 136);
  // The checksum is that of the header with blanks in its place.
  block.write('        ', 148, 'latin1');
  block.write('0', 156, 'latin1');
  block.write('ustar\0' + '00', 257, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}
