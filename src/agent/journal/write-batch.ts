/**
 * Puts many records into few buffers for one write: small parts are copied into a slab that is used again for every batch,
 * large bodies are passed on as they are.
 */
import {
  checksum,
  checksumSeed,
  RECORD_HEADER_BYTES,
  recordBytes,
  serializeRecord,
  type EncodedRecord,
} from './record.ts';

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
    const { head, body } = record;
    const isBodyCopied = body !== undefined && body.length <= COPY_BYTES_MAX;
    const copiedBytes = RECORD_HEADER_BYTES + head.length + (isBodyCopied ? body.length : 0);
    if (head.length > COPY_BYTES_MAX) {
      return this.#addWhole(record);
    }
    if (this.#filled + copiedBytes > this.#slab.length && !this.#makeRoom(copiedBytes)) {
      return false;
    }
    const slab = this.#slab;
    const at = this.#filled;
    const length = recordBytes(record) - 8;
    slab.writeUInt32LE(length, at);
    slab[at + 8] = record.type;
    slab.set(head, at + RECORD_HEADER_BYTES);
    if (isBodyCopied) {
      slab.set(body, at + RECORD_HEADER_BYTES + head.length);
    }
    this.#filled = at + copiedBytes;
    // One call for what lies together: the checksum is most of the work here.
    let sum = checksum(slab.subarray(at + 8, this.#filled), checksumSeed(this.#salt, length));
    if (body !== undefined && !isBodyCopied) {
      sum = checksum(body, sum);
      this.#cut();
      this.#buffers.push(body);
    }
    slab.writeUInt32LE(sum, at + 4);
    this.#bytes += 8 + length;
    return true;
  }

  /** The batch for writing. */
  buffers(): readonly Uint8Array[] {
    this.#cut();
    return this.#buffers;
  }

  /** A record with a head of unusual size; it is too rare to be quick about. */
  #addWhole(record: EncodedRecord): boolean {
    const bytes = serializeRecord(record, this.#salt);
    this.#cut();
    this.#buffers.push(bytes);
    this.#bytes += bytes.length;
    return true;
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
