/** The SDK: what programs import. */
export { Client } from './client.ts';
export type { ClientOptions, RegisterOptions, RunOptions, WaitOptions } from './client.ts';
export type { ComputeFuture } from './compute-future.ts';
export type { Environment } from './environment.ts';
export {
  FutureCancelledError,
  SerializationError,
  TaskExecutionError,
  TaskPendingError,
} from './errors.ts';
export { Executor } from './executor.ts';
export type { ExecutorOptions } from './executor.ts';
export type { TaskOutcome } from './outcome.ts';
export { RegisteredFunction } from './registered-function.ts';
export type { FunctionReference } from './registered-function.ts';
export type { ArgumentFormat } from './serializers.ts';
export {
  AuthError,
  ComputeError,
  ConfigError,
  ConflictError,
  ProtocolError,
  UnavailableError,
  UsageError,
} from '../base/errors.ts';
export type { Logger } from '../base/logger.ts';
export type { Language } from '../protocol/serialization.ts';
export type { TokenSource } from '../transport/oauth/client-credentials.ts';
