/**
 * Puts many records into few buffers for one write: small parts are copied into a slab that is used again for every batch,
 * large bodies are passed on as they are.
 */
import { RECORD_HEADER_BYTES, recordBytes, recordChecksum, type EncodedRecord } from './record.ts';

const SLAB_BYTES_MIN = 256 * 1024;
/** Records are batched up to this; more in one write does not make a disk faster. */
const SLAB_BYTES_MAX = 4 * 1024 * 1024;
/** From here on the copy costs more than one more buffer in the write. */
const COPY_BYTES_MAX = 32 * 1024;

/** A batch of records in the making. */
export class WriteBatch {
  #slab = Buffer.allocUnsafeSlow(SLAB_BYTES_MIN);
  #filled = 0;
  #flushed = 0;
  #buffers: Uint8Array[] = [];
  #bytes = 0;
  #salt = 0;

  /** Bytes of all records in it. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Begins a new batch for a segment; the buffers of the last one are overwritten. */
  begin(salt: number): void {
    this.#salt = salt;
    this.#filled = 0;
    this.#flushed = 0;
    this.#buffers = [];
    this.#bytes = 0;
  }

  /** Adds a record; false when the batch is full (an empty batch takes any record). */
  add(record: EncodedRecord): boolean {
    const parts = record.body === undefined ? [record.head] : [record.head, record.body];
    const copied = parts.reduce(
      (sum, part) => sum + (part.length <= COPY_BYTES_MAX ? part.length : 0),
      RECORD_HEADER_BYTES,
    );
    if (this.#filled + copied > this.#slab.length && !this.#makeRoom(copied)) {
      return false;
    }
    const length = recordBytes(record) - RECORD_HEADER_BYTES + 1;
    const slab = this.#slab;
    const at = this.#filled;
    slab.writeUInt32LE(length, at);
    slab[at + 8] = record.type;
    this.#filled += RECORD_HEADER_BYTES;
    const type = slab.subarray(at + 8, at + 9);
    slab.writeUInt32LE(recordChecksum(this.#salt, length, [type, ...parts]), at + 4);
    for (const part of parts) {
      this.#append(part);
    }
    this.#bytes += RECORD_HEADER_BYTES - 1 + length;
    return true;
  }

  /** The batch for writing. */
  buffers(): readonly Uint8Array[] {
    this.#cut();
    return this.#buffers;
  }

  #append(part: Uint8Array): void {
    if (part.length <= COPY_BYTES_MAX) {
      this.#slab.set(part, this.#filled);
      this.#filled += part.length;
    } else {
      this.#cut();
      this.#buffers.push(part);
    }
  }

  /** Ends the stretch of the slab that has not been handed out yet. */
  #cut(): void {
    if (this.#filled > this.#flushed) {
      this.#buffers.push(this.#slab.subarray(this.#flushed, this.#filled));
      this.#flushed = this.#filled;
    }
  }

  /** A larger slab, while the batch is still empty or the bound allows it. */
  #makeRoom(bytes: number): boolean {
    if (this.#slab.length >= SLAB_BYTES_MAX) {
      return false;
    }
    // What is in the old slab stays there; the new one continues behind it.
    this.#cut();
    this.#slab = Buffer.allocUnsafeSlow(Math.max(bytes, this.#slab.length * 2));
    this.#filled = 0;
    this.#flushed = 0;
    return true;
  }
}
