/** The SDK: what programs import. */
export type {
  AllowedFunctions,
  EndpointUpdate,
  SearchOptions,
  SharingOptions,
} from './administration.ts';
export { asCompleted } from './as-completed.ts';
export type { Completions } from './as-completed.ts';
export { Batch } from './batch.ts';
export type { BatchTask, CallSettings, PositionalArguments, TaskCall } from './batch.ts';
export { Client } from './client.ts';
export type {
  CallOptions,
  ClientOptions,
  RegisterModuleOptions,
  RegisterOptions,
  RunCall,
  RunOptions,
  WaitOptions,
} from './client-options.ts';
export type { ComputeFuture } from './compute-future.ts';
export type { Environment } from './environment.ts';
export {
  AbortError,
  BatchError,
  FutureCancelledError,
  SerializationError,
  SubmissionError,
  TaskExecutionError,
  TaskPendingError,
} from './errors.ts';
export type { BatchFailure, TaskFailure } from './errors.ts';
export { Executor } from './executor.ts';
export type {
  ExecutorOptions,
  MapOptions,
  ReattachOptions,
  ShutdownOptions,
  SubmitOptions,
} from './executor-options.ts';
export {
  COMPUTE_SCOPE,
  DefaultLoginManager,
  GROUPS_SCOPE,
  SEARCH_SCOPE,
  StaticTokenLoginManager,
} from './login/index.ts';
export type { DefaultLoginOptions, LoginManager, LoginOptions } from './login/index.ts';
export type { AnyFunction } from './function-source.ts';
export type { BundleOptions } from './module-bundle.ts';
export { RegisteredFunction } from './registered-function.ts';
export type { FunctionReference } from './registered-function.ts';
export type { ArgumentFormat } from './serializers.ts';
export type { TaskSettings } from './submitter.ts';
export type { Items, SettledTask } from './task-flow.ts';
export type { TaskMap } from './task-map.ts';
export type { PendingStatus, TaskId, TaskRecord } from './task-record.ts';
export type { Clock, Timer } from '../base/clock.ts';
export {
  AuthError,
  ComputeError,
  ConfigError,
  ConflictError,
  ProtocolError,
  UnavailableError,
  UsageError,
} from '../base/errors.ts';
export type {
  AuthErrorCode,
  ComputeErrorOptions,
  ConfigProblem,
  ConflictErrorCode,
  ErrorDetails,
  ProtocolErrorCode,
  UnavailableErrorCode,
} from '../base/errors.ts';
export type { Logger } from '../base/logger.ts';
export type { EndpointListing } from '../client/hub-client.ts';
export type { DeviceAuthorization } from '../protocol/oauth.ts';
export type { EndpointStatus } from '../protocol/rest.ts';
export type {
  EnvironmentDocument,
  EnvironmentType,
  FoundFunction,
  FunctionSearchDocument,
  GroupDocument,
  GroupRole,
  MembershipDocument,
  SharingDocument,
} from '../protocol/sharing.ts';
export type { Language } from '../protocol/serialization.ts';
export type { TaskState } from '../protocol/task-state.ts';
export type { AccessTokenOptions, TokenSource } from '../transport/oauth/client-credentials.ts';
