/** The error of a request to the hub: the HTTP status and code of protocol.md 3.2, mapped to the error body by http/. */
import { ComputeError } from '../base/errors.ts';
import type { ComputeErrorOptions } from '../base/errors.ts';

/** A request that the hub refuses, for a reason that the caller can act on. */
export class HubError extends ComputeError {
  readonly httpStatus: number;

  /** `code` is one of protocol.md 3.2; `detail` is shown to people as it is. */
  constructor(httpStatus: number, code: string, detail: string, options: ComputeErrorOptions = {}) {
    super(code, detail, 69, options);
    this.httpStatus = httpStatus;
  }

  /** What the error body says: the message. */
  get detail(): string {
    return this.message;
  }
}
