/**
 * Documents of the REST API (protocol.md 3 to 6), in the wire's own spelling. Unknown fields are ignored by readers.
 */
import type { TaskState } from './task-state.ts';

/** `error` body of every route (protocol.md 3.2): `detail` and `code` are always strings. */
export interface ErrorDocument {
  readonly status: 'Failed';
  readonly code: string;
  readonly error_args: readonly unknown[];
  readonly http_status_code: number;
  readonly detail: string;
  readonly reason: string;
}

/** How to publish, splatted into pika's `basic_publish`: no other key may appear. */
export interface QueuePublishKwargs {
  readonly exchange: string;
  readonly routing_key: string;
  readonly mandatory: true;
  readonly properties: { readonly delivery_mode: 2 };
}

/** Where to consume. */
export interface ConsumeQueueInfo {
  readonly connection_url: string;
  readonly exchange: string;
  readonly queue: string;
}

/** Where to publish. */
export interface PublishQueueInfo extends ConsumeQueueInfo {
  readonly queue_publish_kwargs: QueuePublishKwargs;
}

/** Who holds an endpoint: enough to tell "still the same process" from "another one". Ours. */
export interface LeaseHolder {
  readonly host: string;
  readonly boot_id: string;
  readonly pid: number;
  /** Start time of the process in clock ticks since boot (field 22 of /proc/pid/stat). */
  readonly start_ticks: number;
}

/** Body of `POST|PUT /v3/endpoints`. */
export interface EndpointRegistration {
  readonly endpoint_name: string;
  readonly display_name?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly allowed_functions?: readonly string[];
  readonly public?: boolean;
  /** Ours: asks for the lease. Absent for the original endpoint. */
  readonly lease?: {
    readonly holder: LeaseHolder;
    /** Epoch this endpoint directory held last; the same host may follow itself at once. */
    readonly previous_epoch?: number;
    /** Fence whoever holds it. */
    readonly takeover?: boolean;
  };
}

/** Body of `POST /v1/endpoints/{id}/tasks/hand-back`. Ours. */
export interface TasksHandedBack {
  /** Lease epoch under which the tasks were acked. */
  readonly epoch: number;
  /** Acked and not started; HAND_BACK_TASKS_MAX at most. */
  readonly task_ids: readonly string[];
}

/** Tasks that one request may hand back. */
export const HAND_BACK_TASKS_MAX = 1_000;

/** Lease as granted. Ours. */
export interface LeaseGrant {
  readonly epoch: number;
  readonly ttl_ms: number;
}

/** Response to a registration: the superset of all four queue infos. */
export interface EndpointRegistered {
  readonly endpoint_id: string;
  readonly command_queue_info: ConsumeQueueInfo;
  readonly task_queue_info: ConsumeQueueInfo;
  readonly result_queue_info: PublishQueueInfo;
  readonly heartbeat_queue_info: PublishQueueInfo;
  readonly warnings: readonly string[];
  readonly lease?: LeaseGrant;
  /** Ours: results over `inline_bytes_max` are brought by `PUT /v1/tasks/{id}/result-blob`. */
  readonly result_upload?: { readonly inline_bytes_max: number };
}

/** A result that the hub keeps in its blob store. Ours. */
export interface BlobReference {
  /** Of its content, hexadecimal. */
  readonly sha256: string;
  readonly bytes: number;
}

/** Body of `POST /v3/functions`. */
export interface FunctionRegistration {
  readonly function_name: string;
  readonly function_code: string;
  readonly meta?: Readonly<Record<string, string>>;
  readonly description?: string;
  readonly public?: boolean;
  readonly group?: string;
  /** Environment that the function runs in. */
  readonly container_uuid?: string;
  /** Whether others find it by searching; default true. */
  readonly searchable?: boolean;
}

/** Body of `POST /v3/endpoints/{id}/submit` (protocol.md 4). */
export interface Submission {
  readonly create_queue?: boolean;
  readonly tasks: Readonly<Record<string, readonly string[]>>;
  readonly task_group_id?: string;
  readonly resource_specification?: Readonly<Record<string, unknown>>;
  readonly user_endpoint_config?: Readonly<Record<string, unknown>>;
  readonly user_runtime?: Readonly<Record<string, unknown>>;
  readonly result_serializers?: readonly string[];
}

/** Response to a submission: same keys, same lengths, same order. */
export interface SubmissionAccepted {
  readonly request_id: string;
  readonly task_group_id: string;
  readonly endpoint_id: string;
  readonly tasks: Readonly<Record<string, readonly string[]>>;
}

/** `GET /v2/tasks/{id}` and values of `batch_status.results` (protocol.md 6.6). Absent keys stay absent, never null. */
export interface TaskDocument {
  readonly task_id: string;
  readonly status: TaskState;
  readonly result?: string;
  readonly exception?: string;
  readonly reason?: string;
  readonly completion_t?: string;
  readonly details?: Readonly<Record<string, unknown>>;
  /** Ours: what the task printed, and the error taken apart. */
  readonly outpost?: {
    readonly stdout?: string;
    readonly stderr?: string;
    readonly output_truncated?: boolean;
    /** The hub gave the task up (LOST); a real result may still take the place of this failure. */
    readonly provisional?: boolean;
    /** The result is too large for this document: `GET /v1/tasks/{id}/result` has it. */
    readonly blob?: BlobReference;
    readonly error?: {
      readonly code: string;
      readonly type?: string;
      readonly message?: string;
    };
  };
}

/** `GET /v2/get_amqp_result_connection_url` (protocol.md 6.1). */
export interface ResultConnection {
  readonly queue_prefix: string;
  readonly connection_url: string;
}

/** `GET /v2/endpoints/{id}/status` (protocol.md 3.5). */
export interface EndpointStatus {
  readonly status: 'online' | 'offline';
  readonly details?: Readonly<Record<string, unknown>>;
}

/** `POST /v2/oauth2/token` in the shape that the Globus SDK parses (protocol.md 2.5). */
export interface TokenResponse {
  readonly access_token: string;
  readonly scope: string;
  readonly resource_server: string;
  readonly expires_in: number;
  readonly token_type: 'Bearer';
  readonly other_tokens: readonly Omit<TokenResponse, 'other_tokens'>[];
}

/** Scope of every Compute call (protocol.md 2.4). */
export const COMPUTE_SCOPE =
  'https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all';
/** Resource server of {@link COMPUTE_SCOPE}. */
export const COMPUTE_RESOURCE_SERVER = 'funcx_service';
/** Resource server of the identity scopes. */
export const AUTH_RESOURCE_SERVER = 'auth.globus.org';
