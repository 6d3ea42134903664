/**
 * Tables of the hub, as Kysely sees them. PostgreSQL is the truth about tasks; the broker only carries.
 * The migrations beside this file make them; `hub migrate` applies them.
 */
import type { ColumnType, Generated, GeneratedAlways, JSONColumnType } from 'kysely';

import type { LeaseHolder } from '../../protocol/rest.ts';
import type { EnvironmentType, GroupRole } from '../../protocol/sharing.ts';
import type { TaskState } from '../../protocol/task-state.ts';

type Json = Record<string, unknown>;
/** Set by the database when absent; read as a Date. */
type Timestamp = ColumnType<Date, Date | string | undefined, Date | string>;
type NullableTimestamp = ColumnType<
  Date | null,
  Date | string | null | undefined,
  Date | string | null
>;

/** A registered OAuth client; its id is also the identity of who signs in with it. */
export interface ClientsTable {
  id: string;
  name: string;
  /** scrypt, never the secret itself. */
  secret_hash: string;
  /** May register and run endpoints, and nothing else. */
  endpoint_only: Generated<boolean>;
  created_at: Timestamp;
}

/** Access tokens that were issued, by the SHA-256 of the token. */
export interface AccessTokensTable {
  token_hash: Buffer;
  /** The client that it was issued to; null when that was a person. */
  client_id: string | null;
  /** The login of a person that it belongs to; null when it was issued to a client. */
  login_id: string | null;
  scope: string;
  resource_server: string;
  expires_at: ColumnType<Date, Date | string, Date | string>;
}

/** People that the hub signs in itself, and those of other issuers from the first time they are seen. */
export interface PeopleTable {
  id: string;
  /** Unique; with the domain of the issuer behind an @ unless the hub itself signs the person in. */
  username: string;
  name: string;
  email: string | null;
  /** scrypt; null for whom another issuer signs in. */
  password_hash: string | null;
  issuer: string | null;
  subject: string | null;
  disabled: Generated<boolean>;
  created_at: Timestamp;
}

/** Each time that a person signed in an application; its tokens end with it. */
export interface LoginsTable {
  id: string;
  person_id: string;
  app_id: string;
  created_at: Timestamp;
}

/** Refresh tokens by the SHA-256 of the token; `replaced_at` is set once the next one was handed out. */
export interface RefreshTokensTable {
  token_hash: Buffer;
  login_id: string;
  scope: string;
  resource_server: string;
  expires_at: ColumnType<Date, Date | string, Date | string>;
  replaced_at: NullableTimestamp;
}

/** Codes that browsers carry back to applications; `login_id` is set once one was exchanged. */
export interface AuthorizationCodesTable {
  code_hash: Buffer;
  app_id: string;
  person_id: string;
  redirect_uri: string;
  code_challenge: string;
  scope: string;
  nonce: string | null;
  expires_at: ColumnType<Date, Date | string, Date | string>;
  login_id: string | null;
}

/** Devices that wait to be let in. */
export interface DeviceCodesTable {
  device_hash: Buffer;
  /** Without the hyphen that people see. */
  user_code: string;
  app_id: string;
  scope: string;
  expires_at: ColumnType<Date, Date | string, Date | string>;
  interval_s: number;
  polled_at: NullableTimestamp;
  /** Who let it in. */
  person_id: string | null;
  denied: Generated<boolean>;
}

/** Functions; `code` is the packed buffer as registered. */
export interface FunctionsTable {
  id: string;
  owner_id: string;
  name: string;
  code: string;
  description: string | null;
  /** What the code says about itself, where it is readable. */
  doc: string | null;
  public: Generated<boolean>;
  /** Groups that may use it. */
  shared_with: Generated<string[]>;
  /** False: never found by a search. */
  searchable: Generated<boolean>;
  environment_id: string | null;
  meta: JSONColumnType<Json>;
  /** Owner, groups, and the nil UUID when it is public. */
  readers: GeneratedAlways<string[]>;
  /** Words of name, description and doc (tsvector). */
  search: GeneratedAlways<string>;
  created_at: Timestamp;
  deleted_at: NullableTimestamp;
}

/** Execution environments: where the functions that name one are run. */
export interface EnvironmentsTable {
  id: string;
  owner_id: string;
  type: EnvironmentType;
  location: string;
  name: string;
  description: string | null;
  public: Generated<boolean>;
  shared_with: Generated<string[]>;
  created_at: Timestamp;
  deleted_at: NullableTimestamp;
}

/** Groups of people. Those of another issuer are named by its claim; the others have members of their own. */
export interface GroupsTable {
  id: string;
  name: string;
  description: string | null;
  created_by: string | null;
  /** With `claim_name`: who has this group in a token of this issuer is a member. */
  claim_issuer: string | null;
  claim_name: string | null;
  created_at: Timestamp;
}

/** Who is in which group. */
export interface GroupMembersTable {
  group_id: string;
  identity_id: string;
  role: GroupRole;
  since: Timestamp;
}

/** Endpoints, their lease and their last heartbeat. */
export interface EndpointsTable {
  id: string;
  owner_id: string;
  name: string;
  display_name: string | null;
  metadata: JSONColumnType<Json>;
  /** null: every function is allowed. */
  allowed_functions: string[] | null;
  public: Generated<boolean>;
  /** Groups that may use it. */
  shared_with: Generated<string[]>;
  /** False when its agent runs functions as its own user and its operator has not allowed sharing nevertheless. */
  may_be_shared: GeneratedAlways<boolean>;
  /** Random part of the queue names: any user of a vhost can look at a queue whose name it knows. */
  queue_suffix: string;
  lease_epoch: Generated<number>;
  lease_holder: JSONColumnType<LeaseHolder> | null;
  lease_expires_at: NullableTimestamp;
  last_heartbeat_at: NullableTimestamp;
  /** `global_state` of the last heartbeat. */
  status_report: JSONColumnType<Json> | null;
  /** Seconds; from the last heartbeat. */
  heartbeat_period_s: Generated<number>;
  /** False once the endpoint said that it stops. */
  active: Generated<boolean>;
  /** Registration answers 423 until then. */
  locked_until: NullableTimestamp;
  created_at: Timestamp;
  deleted_at: NullableTimestamp;
}

/** Task groups; one result queue each when `has_queue`. */
export interface TaskGroupsTable {
  id: string;
  owner_id: string;
  has_queue: Generated<boolean>;
  created_at: Timestamp;
}

/** Tasks from submission to the end of the retention. */
export interface TasksTable {
  id: string;
  group_id: string;
  owner_id: string;
  endpoint_id: string;
  function_id: string;
  /** Packed args and kwargs; the function's code is put before it when published. */
  payload: string;
  /** `resource_specification` and `result_serializers` of the submission, when given. */
  options: JSONColumnType<Json> | null;
  state: TaskState;
  created_at: Timestamp;
  /** When the broker confirmed the task message; null: the relay publishes it (again). */
  published_at: NullableTimestamp;
  received_at: NullableTimestamp;
  started_at: NullableTimestamp;
  completed_at: NullableTimestamp;
  /** When the result was put on the group's queue, or found to have none. */
  streamed_at: NullableTimestamp;
  /** The Result message as the endpoint published it. */
  result: Buffer | null;
  /** Captured output (`TaskOutput`). */
  output: JSONColumnType<Json> | null;
  /** The hub gave the task up (LOST); one real result may still replace that. */
  provisional: Generated<boolean>;
  /** Lease epoch under which an agent last gave the task back unstarted. */
  handed_back_epoch: number | null;
}

/** Results that are too large for a message; `key` is set once it is known, `stored_at` once the blob is there. */
export interface ResultBlobsTable {
  task_id: string;
  key: string | null;
  sha256: string | null;
  bytes: ColumnType<string, number, number>;
  created_at: Timestamp;
  stored_at: NullableTimestamp;
}

/** Identities some of whose broker users are still to go. */
export interface RevokedClientsTable {
  id: string;
  revoked_at: Timestamp;
  /** Whether those of its endpoints are among them. */
  sessions: Generated<boolean>;
}

/** How often the credentials of an identity at the broker were ended; none: never. */
export interface BrokerEpochsTable {
  identity_id: string;
  epoch: number;
  /** It gets no others. */
  closed: boolean;
}

/** Former holders of leases that may still publish results, and nothing else. */
export interface FencedLeasesTable {
  endpoint_id: string;
  epoch: number;
  fenced_at: Timestamp;
}

/** Answers to submissions that carried an Idempotency-Key. */
export interface SubmissionsTable {
  owner_id: string;
  idempotency_key: string;
  /** SHA-256 of the request body: the same key with another body is an error. */
  request_hash: Buffer;
  response: JSONColumnType<Json>;
  created_at: Timestamp;
}

/** Keys that all hub processes share, such as the one that broker passwords of persons derive from. */
export interface HubSecretsTable {
  name: string;
  value: Buffer;
}

/** One row: when a hub process was alive last. */
export interface HubLivenessTable {
  only_row: Generated<boolean>;
  alive_at: Timestamp;
}

/** The database. */
export interface HubDatabase {
  clients: ClientsTable;
  access_tokens: AccessTokensTable;
  people: PeopleTable;
  logins: LoginsTable;
  refresh_tokens: RefreshTokensTable;
  authorization_codes: AuthorizationCodesTable;
  device_codes: DeviceCodesTable;
  functions: FunctionsTable;
  environments: EnvironmentsTable;
  groups: GroupsTable;
  group_members: GroupMembersTable;
  endpoints: EndpointsTable;
  task_groups: TaskGroupsTable;
  tasks: TasksTable;
  submissions: SubmissionsTable;
  hub_secrets: HubSecretsTable;
  hub_liveness: HubLivenessTable;
  fenced_leases: FencedLeasesTable;
  revoked_clients: RevokedClientsTable;
  broker_epochs: BrokerEpochsTable;
  result_blobs: ResultBlobsTable;
}
