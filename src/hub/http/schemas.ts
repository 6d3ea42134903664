/**
 * Schemas of the API in one place: they check requests, give the handlers their types and make the OpenAPI document.
 *
 * Fields that are not listed are accepted and ignored, as clients of other versions send them. An optional field may be
 * null, which means that it is absent. Responses are described for the document only.
 */
import { Type } from '@sinclair/typebox';
import type { Static, TObject, TOptional, TProperties, TSchema, TUnsafe } from '@sinclair/typebox';

import { DEVICE_GRANT } from '../../protocol/oauth.ts';
import { HAND_BACK_TASKS_MAX } from '../../protocol/rest.ts';

/** An optional text that may be null. */
export function optionalText(
  options: { maxLength?: number; format?: 'uuid' } = {},
): TOptional<TUnsafe<string | null>> {
  return Type.Optional(Type.Unsafe<string | null>({ type: 'string', nullable: true, ...options }));
}

/** An optional flag that may be null. */
export function optionalFlag(): TOptional<TUnsafe<boolean | null>> {
  return Type.Optional(Type.Unsafe<boolean | null>({ type: 'boolean', nullable: true }));
}

function optionalObject() {
  return Type.Optional(
    Type.Unsafe<Record<string, unknown> | null>({ type: 'object', nullable: true }),
  );
}

/** An optional list of texts that may be null. */
export function optionalTexts({
  maxItems,
  format,
}: { maxItems?: number; format?: 'uuid' } = {}): TOptional<TUnsafe<string[] | null>> {
  return Type.Optional(
    Type.Unsafe<string[] | null>({
      type: 'array',
      items: { type: 'string', ...(format === undefined ? {} : { format }) },
      nullable: true,
      ...(maxItems === undefined ? {} : { maxItems }),
    }),
  );
}

/** An object that may hold more than is listed. */
export function open<P extends TProperties>(properties: P): TObject<P> {
  return Type.Object(properties, { additionalProperties: true });
}

/** Longest name of anything. */
export const NAME_CHARS_MAX = 256;
/** Column of the database: a 32-bit integer. */
const EPOCH_MAX = 2 ** 31 - 1;

/** Formats describe only: what is no UUID is refused with a code of its own (identifiers.ts). */
export const Uuid = Type.String({ format: 'uuid' });

/** Path of a route with an id. */
export const IdParams = Type.Object({ id: Uuid });

/** `POST /v3/functions`, and v2 with `metadata` instead of `meta`. */
export const FunctionBody = open({
  function_name: Type.String({ minLength: 1, maxLength: NAME_CHARS_MAX }),
  function_code: Type.String({ minLength: 1 }),
  serialized: optionalFlag(),
  meta: optionalObject(),
  metadata: optionalObject(),
  description: optionalText(),
  public: optionalFlag(),
  group: optionalText(),
  searchable: optionalFlag(),
  container_uuid: optionalText(),
  function_source: optionalText(),
  ha_endpoint_id: optionalText(),
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
  previous_epoch: Type.Optional(Type.Integer({ minimum: 0, maximum: EPOCH_MAX })),
  takeover: Type.Optional(Type.Boolean()),
});

const registrationFields = {
  display_name: optionalText({ maxLength: NAME_CHARS_MAX }),
  metadata: optionalObject(),
  allowed_functions: optionalTexts({ maxItems: 10_000, format: 'uuid' }),
  public: optionalFlag(),
  multi_user: optionalFlag(),
  high_assurance: optionalFlag(),
  authentication_policy: optionalText(),
  subscription_uuid: optionalText(),
  admins: optionalTexts(),
  lease: Type.Optional(Lease),
};

/** `POST /v3/endpoints`. */
export const EndpointBody = open({
  endpoint_name: Type.String({ minLength: 1, maxLength: NAME_CHARS_MAX }),
  ...registrationFields,
});
/** Body of an endpoint's registration. */
export type EndpointBody = Static<typeof EndpointBody>;

/** `POST /v2/endpoints`: the caller may choose the id. */
export const EndpointBodyV2 = open({
  ...EndpointBody.properties,
  endpoint_uuid: optionalText({ format: 'uuid' }),
});
/** Body of an endpoint's registration on v2. */
export type EndpointBodyV2 = Static<typeof EndpointBodyV2>;

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
export const ReleaseBody = open({ epoch: Type.Integer({ minimum: 0, maximum: EPOCH_MAX }) });
/** `POST /v1/endpoints/{id}/tasks/hand-back`. */
export const HandBackBody = open({
  epoch: Type.Integer({ minimum: 0, maximum: EPOCH_MAX }),
  task_ids: Type.Array(Type.String({ format: 'uuid' }), { maxItems: HAND_BACK_TASKS_MAX }),
});
/** Body of tasks that are handed back. */
export type HandBackBody = Static<typeof HandBackBody>;

/** Body of a lease's release. */
export type ReleaseBody = Static<typeof ReleaseBody>;

const TasksByFunction = Type.Record(Type.String(), Type.Array(Type.String()), {
  propertyNames: { format: 'uuid' },
});

/** `POST /v3/endpoints/{id}/submit`; the header is counted by hand, with a code of its own. */
export const SubmissionHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      description: 'The same submission under the same key is accepted once. 1 to 255 characters.',
    }),
  ),
});

/** `POST /v3/endpoints/{id}/submit`. */
export const SubmissionBody = open({
  tasks: TasksByFunction,
  create_queue: optionalFlag(),
  task_group_id: optionalText({ format: 'uuid' }),
  resource_specification: optionalObject(),
  user_endpoint_config: optionalObject(),
  user_runtime: optionalObject(),
  result_serializers: optionalTexts({ maxItems: 100 }),
});
/** Body of a submission. */
export type SubmissionBody = Static<typeof SubmissionBody>;

/** `POST /v2/submit`: each task is `[function, endpoint, payload]`. */
export const SubmissionBodyV2 = open({
  // A tuple, spelt so that it means the same in every draft of JSON Schema.
  tasks: Type.Array(
    Type.Unsafe<[string, string, string]>({
      type: 'array',
      items: { type: 'string' },
      minItems: 3,
      maxItems: 3,
    }),
  ),
  task_group_id: optionalText({ format: 'uuid' }),
  create_websocket_queue: optionalFlag(),
  resource_specification: optionalObject(),
  user_endpoint_config: optionalObject(),
  user_runtime: optionalObject(),
  result_serializers: optionalTexts({ maxItems: 100 }),
});
/** Body of a submission on v2. */
export type SubmissionBodyV2 = Static<typeof SubmissionBodyV2>;

/** `POST /v2/batch_status`. */
export const BatchStatusBody = open({
  task_ids: Type.Array(Uuid, { maxItems: 10_000 }),
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

/** The error body of every route but those of OAuth. */
export const ErrorResponse = Type.Object(
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

/** How the token, revocation and introspection endpoints refuse (RFC 6749, 5.2), where it is not the server itself that does. */
export const OAuthErrorResponse = Type.Object({
  error: Type.String(),
  error_description: Type.String(),
});

const clientFields = {
  client_id: Type.Optional(Type.String()),
  client_secret: Type.Optional(Type.String()),
};

/** Forms of the OAuth endpoints. They are described here and checked by hand, because their refusals have OAuth's shape. */
export const TokenForm = open({
  grant_type: Type.Union(
    ['client_credentials', 'authorization_code', 'refresh_token', DEVICE_GRANT].map((name) =>
      Type.Literal(name),
    ),
  ),
  scope: Type.Optional(Type.String()),
  code: Type.Optional(Type.String()),
  redirect_uri: Type.Optional(Type.String()),
  code_verifier: Type.Optional(Type.String()),
  device_code: Type.Optional(Type.String()),
  refresh_token: Type.Optional(Type.String()),
  ...clientFields,
});
/** Form of a device that asks to be let in. */
export const DeviceForm = open({
  client_id: Type.String(),
  scope: Type.Optional(Type.String()),
});
/** Form of revocation and introspection. */
export const TokenActionForm = open({ token: Type.String(), ...clientFields });

const Token = open({
  access_token: Type.String(),
  scope: Type.String(),
  resource_server: Type.String(),
  expires_in: Type.Integer(),
  token_type: Type.Literal('Bearer'),
  refresh_token: Type.Optional(Type.String()),
});

const Identity = open({ id: Uuid, username: Type.String(), name: Type.String() });

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
    result_upload: Type.Optional(open({ inline_bytes_max: Type.Integer() })),
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
  /** A registration, or the confirmation of a change of single fields. */
  endpointUpdated: open({ endpoint_id: Uuid, warnings: Type.Array(Type.String()) }),
  endpoint: open({ uuid: Uuid, name: Type.String() }),
  allowedFunctions: open({
    endpoint_id: Uuid,
    restricted: Type.Boolean(),
    functions: Type.Optional(Type.Array(Uuid)),
  }),
  locked: open({
    endpoint_id: Uuid,
    lock_expiration_timestamp: Type.Union([Type.Number(), Type.String()]),
  }),
  released: open({ endpoint_id: Uuid, released: Type.Boolean() }),
  deleted: open({ result: Type.Integer() }),
  handedBack: open({ endpoint_id: Uuid, handed_back: Type.Integer() }),
  function: open({
    function_uuid: Uuid,
    function_name: Type.String(),
    function_code: Type.String(),
  }),
  submittedV2: open({
    response: Type.Literal('success'),
    task_group_id: Uuid,
    results: Type.Array(
      open({
        status: Type.Literal('Success'),
        task_uuid: Uuid,
        http_status_code: Type.Literal(200),
      }),
    ),
  }),
  token: open({
    ...Token.properties,
    id_token: Type.Optional(Type.String()),
    other_tokens: Type.Array(Token),
  }),
  deviceAuthorization: open({
    device_code: Type.String(),
    user_code: Type.String(),
    verification_uri: Type.String(),
    verification_uri_complete: Type.String(),
    expires_in: Type.Integer(),
    interval: Type.Integer(),
  }),
  discovery: open({
    issuer: Type.String(),
    authorization_endpoint: Type.String(),
    token_endpoint: Type.String(),
    jwks_uri: Type.String(),
    id_token_signing_alg_values_supported: Type.Array(Type.String()),
  }),
  keySet: open({ keys: Type.Array(open({ kty: Type.String() })) }),
  introspection: open({ active: Type.Boolean() }),
  userinfo: open({ sub: Uuid, preferred_username: Type.String(), name: Type.String() }),
  identities: open({ identities: Type.Array(Identity) }),
  /** The version alone, or with `service` all of them. */
  version: Type.Union([
    Type.String(),
    open({ api: Type.String(), min_sdk_version: Type.String(), min_ep_version: Type.String() }),
  ]),
  health: open({
    status: Type.Union([Type.Literal('ok'), Type.Literal('unavailable')]),
    version: Type.String(),
    checks: open({}),
  }),
  endpoints: Type.Array(open({ uuid: Uuid, name: Type.String() })),
  text: Type.String(),
};

/** What a route answers when it did what it was asked for; how it refuses is added to all of them (openapi.ts). */
export function answers(success: TSchema): Record<string, unknown> {
  return { 200: success };
}
