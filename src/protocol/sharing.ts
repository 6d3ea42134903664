/**
 * Documents about groups, sharing, search and execution environments. Groups have the shape of Globus Groups v2, so that its
 * clients work; the others are ours.
 */

/** What a member of a group may do: a member uses what is shared, a manager also says who is a member, an admin everything. */
export type GroupRole = 'admin' | 'manager' | 'member';
/** Every role, from all rights to least. */
export const GROUP_ROLES: readonly GroupRole[] = ['admin', 'manager', 'member'];

/** One membership. */
export interface MembershipDocument {
  readonly group_id: string;
  readonly identity_id: string;
  readonly username: string;
  readonly role: GroupRole;
  readonly status: 'active' | 'removed' | 'left';
}

/** A group; `memberships` only when asked for. */
export interface GroupDocument {
  readonly id: string;
  readonly name: string;
  readonly description: string | null;
  readonly my_memberships?: readonly MembershipDocument[];
  readonly memberships?: readonly MembershipDocument[];
}

/** Things that can be shared, as they are called in paths. */
export type SharedKind = 'functions' | 'endpoints' | 'environments';

/** Body of `POST /v1/{kind}/{id}/share` and `.../unshare`. */
export interface SharingChange {
  /** Ids of groups. */
  readonly groups?: readonly string[];
  /** With everybody. */
  readonly public?: boolean;
}

/** Who may use a thing; told to its owner. */
export interface SharingDocument {
  readonly id: string;
  readonly owner: string;
  readonly public: boolean;
  readonly groups: readonly { readonly id: string; readonly name: string }[];
}

/** A function that was found. Its code is read with `GET /v2/functions/{id}`. */
export interface FoundFunction {
  readonly function_uuid: string;
  readonly function_name: string;
  readonly description: string | null;
  readonly owner: string;
  /** Username of the owner. */
  readonly author: string;
  readonly public: boolean;
  readonly container_uuid: string | null;
  readonly created_at: string;
  /** 0 and up; only its order means something. */
  readonly score: number;
}

/** Answer of `GET /v1/functions/search`. */
export interface FunctionSearchDocument {
  readonly q: string;
  readonly offset: number;
  readonly limit: number;
  readonly count: number;
  /** How many there are; SEARCH_HITS_MAX when there are more. */
  readonly total: number;
  readonly has_next_page: boolean;
  readonly results: readonly FoundFunction[];
}

/** Functions that one search ranks at most. */
export const SEARCH_HITS_MAX = 2_000;
/** Functions that one page of a search holds at most. */
export const SEARCH_LIMIT_MAX = 100;
/** Functions that one page holds when it is not said how many. */
export const SEARCH_LIMIT_DEFAULT = 10;

/** Kinds of execution environments. */
export type EnvironmentType =
  'apptainer' | 'singularity' | 'docker' | 'podman' | 'venv' | 'conda' | 'module';
/** All of them. */
export const ENVIRONMENT_TYPES: readonly EnvironmentType[] = [
  'apptainer',
  'singularity',
  'docker',
  'podman',
  'venv',
  'conda',
  'module',
];

/** Body of `POST /v1/environments` and `POST /v2/containers`. */
export interface EnvironmentRegistration {
  readonly location: string;
  readonly type: string;
  readonly name?: string;
  readonly description?: string;
  readonly public?: boolean;
  readonly group?: string;
}

/** An execution environment. */
export interface EnvironmentDocument {
  readonly environment_id: string;
  readonly type: EnvironmentType;
  readonly location: string;
  readonly name: string;
  readonly description: string | null;
  readonly owner: string;
  readonly public: boolean;
}

/** What a task message says about the environment of its function: JSON text in the header ENVIRONMENT_HEADER. */
export interface TaskEnvironment {
  readonly id: string;
  readonly type: EnvironmentType;
  readonly location: string;
}
