/**
 * Every bound of the wire, with its unit. Settings may lower them; nothing is unbounded.
 */

/** Largest result a worker may return, in characters of the serialized text. */
export const RESULT_CHARS_MAX = 40 * 1024 * 1024;

/** Default largest result that travels as a message, in bytes (protocol.md 10.6); a larger one goes to the hub's blob store. */
export const RESULT_INLINE_BYTES_MAX = 10 * 1024 * 1024;

/** Largest message body that the agent takes from its queue, in bytes: three packed buffers within the submission limit, escaped. */
export const TASK_BYTES_MAX = 32 * 1024 * 1024;

/** Largest header of a frame between agent, worker host and interpreter, in bytes. */
export const FRAME_HEADER_BYTES_MAX = 1024 * 1024;

/** Largest frame, in bytes. Leaves room for a result of RESULT_CHARS_MAX four-byte characters, escaped. */
export const FRAME_BYTES_MAX = 256 * 1024 * 1024;

/** Captured stdout or stderr that is kept for one task, in bytes each; the tail wins. */
export const OUTPUT_BYTES_MAX = 16 * 1024;

/** Default largest submission (request body) at the hub, in bytes (protocol.md 4, limits). */
export const SUBMISSION_BYTES_MAX = 16 * 1024 * 1024;

/**
 * Largest task at the hub, in bytes: packed function and packed arguments together. Brokers refuse messages over 16 MiB by
 * default since RabbitMQ 4; the rest is for the envelope and the escapes in it.
 */
export const TASK_PACKED_BYTES_MAX = 15 * 1024 * 1024;

/** Default largest function at the hub, in bytes. */
export const FUNCTION_BYTES_MAX = 10 * 1024 * 1024;

/** How long a task may wait for its endpoint, in milliseconds: two weeks. */
export const TASK_TTL_MS = 14 * 24 * 3600 * 1000;

/** How long an endpoint may be gone before the tasks that it received count as lost, in milliseconds: a day. */
export const LOST_AFTER_MS = 24 * 3600 * 1000;

/** How long a result stays readable at the hub, in milliseconds: two weeks. */
export const RETENTION_MS = 14 * 24 * 3600 * 1000;

/** Header of a result that carries captured output, in bytes: amqplib encodes all headers of a message into 64 KiB. */
export const OUTPUT_HEADER_BYTES_MAX = 48 * 1024;
