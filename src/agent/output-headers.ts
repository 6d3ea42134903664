/** The captured output of a task as an AMQP header of its result. */
import { TASK_OUTPUT_HEADER } from '../protocol/amqp-headers.ts';
import type { TaskOutput } from '../protocol/host-frames.ts';
import { OUTPUT_HEADER_BYTES_MAX } from '../protocol/limits.ts';

/** Makes the header. What is not plain text grows when it is escaped, so the tails are halved until they fit. */
export function outputHeaders(output: TaskOutput | undefined): Readonly<Record<string, unknown>> {
  if (output === undefined) {
    return {};
  }
  let kept = output;
  let json = JSON.stringify(kept);
  while (Buffer.byteLength(json) > OUTPUT_HEADER_BYTES_MAX) {
    const { stdout, stderr, blob } = kept;
    kept = {
      ...(stdout !== undefined && { stdout: stdout.slice(Math.ceil(stdout.length / 2)) }),
      ...(stderr !== undefined && { stderr: stderr.slice(Math.ceil(stderr.length / 2)) }),
      truncated: true,
      ...(blob !== undefined && { blob }),
    };
    json = JSON.stringify(kept);
  }
  return { [TASK_OUTPUT_HEADER]: json };
}
