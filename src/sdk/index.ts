/** The SDK: what programs import. */
export { asCompleted } from './as-completed.ts';
export type { Completions } from './as-completed.ts';
export { Client } from './client.ts';
export type {
  CallOptions,
  ClientOptions,
  RegisterOptions,
  RunOptions,
  WaitOptions,
} from './client.ts';
export type { ComputeFuture } from './compute-future.ts';
export type { Environment } from './environment.ts';
export {
  AbortError,
  FutureCancelledError,
  SerializationError,
  SubmissionError,
  TaskExecutionError,
  TaskPendingError,
} from './errors.ts';
export { Executor } from './executor.ts';
export type {
  ExecutorOptions,
  MapOptions,
  ReattachOptions,
  ShutdownOptions,
  SubmitOptions,
} from './executor-options.ts';
export type { TaskOutcome } from './outcome.ts';
export { RegisteredFunction } from './registered-function.ts';
export type { FunctionReference } from './registered-function.ts';
export type { ArgumentFormat } from './serializers.ts';
export type { Items, SettledTask } from './task-flow.ts';
export type { TaskMap } from './task-map.ts';
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
