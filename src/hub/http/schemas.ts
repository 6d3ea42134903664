/**
 * Schemas of the API in one place: they check requests, give the handlers their types and make the OpenAPI document.
 *
 * Fields that are not listed are accepted and ignored, as clients of other versions send them. An optional field may be
 * null, which means that it is absent. Responses are described for the document only.
 */
import { Type } from '@sinclair/typebox';
import type { Static, TObject, TProperties, TSchema } from '@sinclair/typebox';

/** An optional text that may be null. */
function optionalText(options: { maxLength?: number } = {}) {
  return Type.Optional(Type.Unsafe<string | null>({ type: 'string', nullable: true, ...options }));
}

function optionalFlag() {
  return Type.Optional(Type.Unsafe<boolean | null>({ type: 'boolean', nullable: true }));
}

function optionalObject() {
  return Type.Optional(
    Type.Unsafe<Record<string, unknown> | null>({ type: 'object', nullable: true }),
  );
}

function optionalTexts(options: { maxItems?: number } = {}) {
  return Type.Optional(
    Type.Unsafe<string[] | null>({
      type: 'array',
      items: { type: 'string' },
      nullable: true,
      ...options,
    }),
  );
}

/** An object that may hold more than is listed. */
function open<P extends TProperties>(properties: P): TObject<P> {
  return Type.Object(properties, { additionalProperties: true });
}

const NAME_CHARS_MAX = 256;

/** Path of a route with an id; whether it is a UUID is told by a code of its own. */
export const IdParams = Type.Object({ id: Type.String() });

/** `POST /v3/functions`, and v2 with `metadata` instead of `meta`. */
export const FunctionBody = open({
  function_name: Type.String({ minLength: 1, maxLength: NAME_CHARS_MAX }),
  function_code: Type.String({ minLength: 1 }),
  serialized: optionalFlag(),
  meta: optionalObject(),
  metadata: optionalObject(),
  description: optionalText(),
  public: optionalFlag(),
});
/** Body of a function's registration. */
export type FunctionBody = Static<typeof FunctionBody>;

const Lease = open({
  holder: open({
    host: Type.String({ minLength: 1, maxLength: NAME_CHARS_MAX }),
    boot_id: Type.String({ maxLength: NAME_CHARS_MAX }),
    pid: Type.Integer({ minimum: 1 }),
    start_ticks: Type.Integer({ minimum: 0 }),
  }),
  previous_epoch: Type.Optional(Type.Integer({ minimum: 0 })),
  takeover: Type.Optional(Type.Boolean()),
});

const registrationFields = {
  display_name: optionalText({ maxLength: NAME_CHARS_MAX }),
  metadata: optionalObject(),
  allowed_functions: optionalTexts({ maxItems: 10_000 }),
  public: optionalFlag(),
  multi_user: optionalFlag(),
  lease: Type.Optional(Lease),
};

/** `POST /v3/endpoints`; `endpoint_uuid` on v2 only. */
export const EndpointBody = open({
  endpoint_name: Type.String({ minLength: 1, maxLength: NAME_CHARS_MAX }),
  endpoint_uuid: optionalText(),
  ...registrationFields,
});
/** Body of an endpoint's registration. */
export type EndpointBody = Static<typeof EndpointBody>;

/** `PUT /v3/endpoints/{id}`: a registration, or without a name a change of single fields. */
export const EndpointUpdateBody = open({
  endpoint_name: Type.Optional(Type.String({ minLength: 1, maxLength: NAME_CHARS_MAX })),
  ...registrationFields,
});
/** Body of an endpoint's update. */
export type EndpointUpdateBody = Static<typeof EndpointUpdateBody>;

/** `GET /v2/endpoints`. */
export const EndpointsQuery = Type.Object({
  role: Type.Optional(Type.Union([Type.Literal('owner'), Type.Literal('any')])),
});
/** Query of the list of endpoints. */
export type EndpointsQuery = Static<typeof EndpointsQuery>;

/** `POST /v1/endpoints/{id}/lease/release`. */
export const ReleaseBody = open({ epoch: Type.Integer({ minimum: 0 }) });
/** Body of a lease's release. */
export type ReleaseBody = Static<typeof ReleaseBody>;

/** `POST /v3/endpoints/{id}/submit`. */
export const SubmissionBody = open({
  tasks: Type.Record(Type.String(), Type.Array(Type.String())),
  create_queue: optionalFlag(),
  task_group_id: optionalText(),
  resource_specification: optionalObject(),
  user_endpoint_config: optionalObject(),
  user_runtime: optionalObject(),
  result_serializers: optionalTexts({ maxItems: 100 }),
});
/** Body of a submission. */
export type SubmissionBody = Static<typeof SubmissionBody>;

/** `POST /v2/submit`: each task is `[function, endpoint, payload]`. */
export const SubmissionBodyV2 = open({
  tasks: Type.Array(Type.Tuple([Type.String(), Type.String(), Type.String()])),
  task_group_id: optionalText(),
  create_websocket_queue: optionalFlag(),
});
/** Body of a submission on v2. */
export type SubmissionBodyV2 = Static<typeof SubmissionBodyV2>;

/** `POST /v2/batch_status`. */
export const BatchStatusBody = open({
  task_ids: Type.Array(Type.String(), { maxItems: 10_000 }),
});
/** Body of a question for many tasks. */
export type BatchStatusBody = Static<typeof BatchStatusBody>;

/** `GET /v2/version`. */
export const VersionQuery = Type.Object({ service: Type.Optional(Type.String()) });
/** Query of the version. */
export type VersionQuery = Static<typeof VersionQuery>;

/** `GET /v2/api/identities`. */
export const IdentitiesQuery = Type.Object({
  ids: Type.Optional(Type.String()),
  usernames: Type.Optional(Type.String()),
});
/** Query of identities. */
export type IdentitiesQuery = Static<typeof IdentitiesQuery>;

const ErrorResponse = Type.Object(
  {
    status: Type.Literal('Failed'),
    code: Type.String(),
    error_args: Type.Array(Type.Unknown()),
    http_status_code: Type.Integer(),
    detail: Type.String(),
    reason: Type.String(),
  },
  { description: 'The request failed; detail says why and what to do.' },
);

const QueueInfo = open({
  connection_url: Type.String(),
  exchange: Type.String(),
  queue: Type.String(),
});

const TaskDocumentResponse = open({
  task_id: Type.String(),
  status: Type.String(),
  result: Type.Optional(Type.String()),
  exception: Type.Optional(Type.String()),
  reason: Type.Optional(Type.String()),
  completion_t: Type.Optional(Type.String()),
});

const TasksByFunction = Type.Record(Type.String(), Type.Array(Type.String()));

/** What routes answer, by name. */
export const Responses = {
  submitted: open({
    request_id: Type.String(),
    task_group_id: Type.String(),
    endpoint_id: Type.String(),
    tasks: TasksByFunction,
  }),
  functionRegistered: open({ function_uuid: Type.String() }),
  endpointRegistered: open({
    endpoint_id: Type.String(),
    command_queue_info: QueueInfo,
    task_queue_info: QueueInfo,
    result_queue_info: QueueInfo,
    heartbeat_queue_info: QueueInfo,
    warnings: Type.Array(Type.String()),
    lease: Type.Optional(open({ epoch: Type.Integer(), ttl_ms: Type.Integer() })),
  }),
  endpointStatus: open({ status: Type.String(), details: Type.Optional(open({})) }),
  task: TaskDocumentResponse,
  batch: open({
    response: Type.Literal('batch'),
    results: Type.Record(Type.String(), TaskDocumentResponse),
  }),
  taskGroup: open({
    taskgroup_id: Type.String(),
    tasks: Type.Array(open({ id: Type.String(), created_at: Type.String() })),
  }),
  resultConnection: open({ queue_prefix: Type.String(), connection_url: Type.String() }),
  document: open({}),
  documents: Type.Array(open({})),
  text: Type.String(),
};

/** Adds the error body to what a route answers. */
export function answers(success: TSchema): Record<string, unknown> {
  return { 200: success, '4xx': ErrorResponse, '5xx': ErrorResponse };
}
