/**
 * Typed client of the hub's REST API (protocol.md 3 to 6), shared by agent, SDK and commands.
 *
 * A 401 is answered once with a forced token refresh. A submission is sent a second time after an ambiguous failure only
 * when it carries an Idempotency-Key: without one, the hub could not tell the second from new tasks.
 */
import type { Clock } from '../base/clock.ts';
import type { EndpointCommand, EndpointLease } from '../protocol/endpoint-commands.ts';
import { unpackResult } from '../protocol/messages.ts';
import type { Result } from '../protocol/messages.ts';
import { HAND_BACK_TASKS_MAX } from '../protocol/rest.ts';
import type {
  BlobReference,
  EndpointRegistered,
  EndpointRegistration,
  EndpointStatus,
  FunctionRegistration,
  ResultConnection,
  Submission,
  SubmissionAccepted,
  TaskDocument,
  TasksHandedBack,
} from '../protocol/rest.ts';
import type { HttpTransportOptions } from '../transport/http/http-transport.ts';
import { JsonHttpClient } from '../transport/http/json-client.ts';
import type { JsonReply, JsonRequest } from '../transport/http/json-client.ts';
import type { TokenSource } from '../transport/oauth/client-credentials.ts';
import { hubError } from './hub-errors.ts';
import { readObject, requireList, requireObject, requireText } from './hub-replies.ts';

/** Settings of a {@link HubClient}. */
export interface HubClientOptions {
  readonly hubUrl: string;
  readonly tokens: TokenSource;
  readonly clock?: Clock;
  /** Limit for one attempt. Default 30 s. */
  readonly timeoutMs?: number;
  readonly userAgent?: string;
  /** Attempts after the first. Default 4. */
  readonly retries?: number;
  /** Authorities that are trusted beside the system's (PEM). */
  readonly ca?: string;
  readonly fetch?: typeof fetch;
  readonly onBodyBytes?: NonNullable<HttpTransportOptions['onBodyBytes']>;
  /** Awaited before each request, outside its time limit: may hold it up. */
  readonly beforeRequest?: (signal?: AbortSignal) => Promise<void>;
}

/** One line of the list of endpoints. */
export interface EndpointListing {
  readonly uuid: string;
  readonly name: string;
  readonly display_name?: string | null;
  readonly owner?: string;
}

/** Tasks of a group. */
export interface TaskGroupDocument {
  readonly taskgroup_id: string;
  readonly tasks: readonly { readonly id: string; readonly created_at?: string }[];
}

/** What the hub says about itself. */
export interface HubVersion {
  readonly api: string;
  readonly min_sdk_version?: string;
  readonly min_ep_version?: string;
}

/** A request of any route. */
export type HubRequest = Omit<JsonRequest, 'headers'> & {
  readonly headers?: Record<string, string>;
  /** What is being tried, for messages. */
  readonly what: string;
};

/** How many ids one `batch_status` may ask for. */
export const TASK_IDS_PER_CALL = 128;

/** A large result takes its time; the hub waits no longer for a request. */
const LARGE_TIMEOUT_MS = 120_000;
/** A message begins with its version, the rest is JSON. */
const MESSAGE_VERSION = Buffer.of(1);

const id = encodeURIComponent;

/** Client of one hub. */
export class HubClient {
  /** Authorities that are trusted beside the system's (PEM): those of the hub are those of its broker. */
  readonly ca: string | undefined;
  readonly #http: JsonHttpClient;
  readonly #tokens: TokenSource;
  readonly #beforeRequest: HubClientOptions['beforeRequest'];

  constructor(options: HubClientOptions) {
    const { hubUrl, tokens, beforeRequest, ...rest } = options;
    this.#beforeRequest = beforeRequest;
    this.#http = new JsonHttpClient({
      ...rest,
      baseUrl: hubUrl,
      setting: 'hub URL',
      serverName: 'the hub',
    });
    this.#tokens = tokens;
    this.ca = options.ca;
  }

  /** URL of the hub, without a slash at its end. */
  get hubUrl(): string {
    return this.#http.baseUrl;
  }

  /** Registers a new endpoint. Not retried after an ambiguous failure: it could leave a second one behind. */
  async registerEndpoint(
    body: EndpointRegistration,
    signal?: AbortSignal,
  ): Promise<EndpointRegistered> {
    const what = `registering endpoint "${body.endpoint_name}"`;
    const call: HubRequest = {
      what,
      method: 'POST',
      path: '/v3/endpoints',
      body,
      idempotent: false,
    };
    return this.#registered(what, await this.request(withSignal(call, signal)));
  }

  /** Registers an endpoint again under its id: the normal start. */
  async updateEndpoint(
    endpointId: string,
    body: EndpointRegistration,
    signal?: AbortSignal,
  ): Promise<EndpointRegistered> {
    const what = `registering endpoint ${endpointId}`;
    const path = `/v3/endpoints/${id(endpointId)}`;
    const call: HubRequest = { what, method: 'PUT', path, body, idempotent: true };
    return this.#registered(what, await this.request(withSignal(call, signal)));
  }

  /** Gives the lease of an epoch back, so that the next start does not wait for it to expire. */
  async releaseLease(endpointId: string, epoch: number, signal?: AbortSignal): Promise<void> {
    const what = `releasing the lease of endpoint ${endpointId}`;
    const path = `/v1/endpoints/${id(endpointId)}/lease/release`;
    const call: HubRequest = { what, method: 'POST', path, body: { epoch }, idempotent: true };
    await this.request(withSignal(call, signal));
  }

  /**
   * Gives back tasks that were acked under a lease epoch and not started; the hub publishes them again. Returns how many it took back:
   * not those that have ended, nor those that were given back under this epoch before. May be repeated.
   */
  async handBackTasks(
    endpointId: string,
    epoch: number,
    taskIds: readonly string[],
    signal?: AbortSignal,
  ): Promise<number> {
    const what = `handing back tasks of endpoint ${endpointId}`;
    const path = `/v1/endpoints/${id(endpointId)}/tasks/hand-back`;
    let count = 0;
    for (let start = 0; start < taskIds.length; start += HAND_BACK_TASKS_MAX) {
      const body: TasksHandedBack = {
        epoch,
        task_ids: taskIds.slice(start, start + HAND_BACK_TASKS_MAX),
      };
      const call: HubRequest = { what, method: 'POST', path, body, idempotent: true };
      const reply = readObject(what, await this.request(withSignal(call, signal)));
      count += typeof reply['handed_back'] === 'number' ? reply['handed_back'] : 0;
    }
    return count;
  }

  /** Whether an endpoint is online, with the figures of its last heartbeat. */
  async endpointStatus(endpointId: string, signal?: AbortSignal): Promise<EndpointStatus> {
    const what = `asking for the status of endpoint ${endpointId}`;
    const reply = await this.#get(what, `/v2/endpoints/${id(endpointId)}/status`, signal);
    requireText(what, reply, 'status');
    return reply.body as EndpointStatus;
  }

  /** Who holds an endpoint of yours. */
  async endpointLease(endpointId: string): Promise<EndpointLease> {
    const what = `asking who holds endpoint ${endpointId}`;
    const reply = await this.#get(what, `/v1/endpoints/${id(endpointId)}/lease`);
    requireText(what, reply, 'lease');
    return reply.body as EndpointLease;
  }

  /** Tells the agent of an endpoint of yours something; returns the id under which its lease reports the outcome. */
  async commandEndpoint(endpointId: string, command: EndpointCommand): Promise<string> {
    const what = `telling endpoint ${endpointId} to ${command.command}`;
    const path = `/v1/endpoints/${id(endpointId)}/commands`;
    // The same command twice does what it does once.
    const call: HubRequest = { what, method: 'POST', path, body: command, idempotent: true };
    return requireText(what, await this.request(call), 'command_id');
  }

  /** The document of an endpoint. */
  async endpoint(endpointId: string): Promise<Record<string, unknown>> {
    const what = `asking for endpoint ${endpointId}`;
    return readObject(what, await this.#get(what, `/v2/endpoints/${id(endpointId)}`));
  }

  /** Endpoints that are yours (`owner`, the default) or that you may use (`any`). */
  async listEndpoints(role?: 'owner' | 'any'): Promise<readonly EndpointListing[]> {
    const what = 'listing endpoints';
    const reply = await this.request({
      what,
      method: 'GET',
      path: '/v2/endpoints',
      query: { role },
      idempotent: true,
    });
    return requireList(what, reply) as readonly EndpointListing[];
  }

  /** Removes an endpoint from the hub. */
  async deleteEndpoint(endpointId: string): Promise<void> {
    await this.request({
      what: `deleting endpoint ${endpointId}`,
      method: 'DELETE',
      path: `/v2/endpoints/${id(endpointId)}`,
      idempotent: true,
    });
  }

  /** Stops an endpoint from afar: closes its connections and refuses registration for a moment. */
  async lockEndpoint(endpointId: string): Promise<Record<string, unknown>> {
    const what = `locking endpoint ${endpointId}`;
    const path = `/v3/endpoints/${id(endpointId)}/lock`;
    return readObject(what, await this.request({ what, method: 'POST', path, idempotent: true }));
  }

  /** Registers a function. Retried: a second registration leaves an unused function and nothing else. */
  async registerFunction(
    body: FunctionRegistration,
    signal?: AbortSignal,
  ): Promise<{ function_uuid: string }> {
    const what = `registering function "${body.function_name}"`;
    const path = '/v3/functions';
    const call: HubRequest = { what, method: 'POST', path, body, idempotent: true };
    const reply = await this.request(withSignal(call, signal));
    return { function_uuid: requireText(what, reply, 'function_uuid') };
  }

  /** The document of a function. */
  async getFunction(functionId: string): Promise<Record<string, unknown>> {
    const what = `asking for function ${functionId}`;
    return readObject(what, await this.#get(what, `/v2/functions/${id(functionId)}`));
  }

  /** Removes a function. */
  async deleteFunction(functionId: string): Promise<void> {
    await this.request({
      what: `deleting function ${functionId}`,
      method: 'DELETE',
      path: `/v2/functions/${id(functionId)}`,
      idempotent: true,
    });
  }

  /** Submits tasks to an endpoint. */
  async submit(
    endpointId: string,
    body: Submission,
    options: { readonly idempotencyKey?: string; readonly signal?: AbortSignal } = {},
  ): Promise<SubmissionAccepted> {
    const what = `submitting to endpoint ${endpointId}`;
    const { idempotencyKey: key, signal } = options;
    const call: HubRequest = {
      what,
      method: 'POST',
      path: `/v3/endpoints/${id(endpointId)}/submit`,
      body,
      idempotent: key !== undefined,
      ...(key === undefined ? {} : { headers: { 'idempotency-key': key } }),
    };
    const reply = await this.request(withSignal(call, signal));
    requireText(what, reply, 'task_group_id');
    requireObject(what, reply, 'tasks');
    return reply.body as SubmissionAccepted;
  }

  /** The document of a task. */
  async task(taskId: string, signal?: AbortSignal): Promise<TaskDocument> {
    const what = `asking for task ${taskId}`;
    const reply = await this.#get(what, `/v2/tasks/${id(taskId)}`, signal);
    requireText(what, reply, 'status');
    return reply.body as TaskDocument;
  }

  /** Documents of many tasks by id; ids that the hub does not know are absent. Asked for in portions. */
  async tasks(
    taskIds: readonly string[],
    signal?: AbortSignal,
  ): Promise<Record<string, TaskDocument>> {
    const what = `asking for ${taskIds.length} tasks`;
    const documents: Record<string, TaskDocument> = {};
    for (let start = 0; start < taskIds.length; start += TASK_IDS_PER_CALL) {
      const body = { task_ids: taskIds.slice(start, start + TASK_IDS_PER_CALL) };
      const path = '/v2/batch_status';
      const call: HubRequest = { what, method: 'POST', path, body, idempotent: true };
      const reply = await this.request(withSignal(call, signal));
      Object.assign(documents, requireObject(what, reply, 'results'));
    }
    return documents;
  }

  /** Brings the Result message of a task that is too large for the broker. May be repeated. */
  async uploadResult(
    taskId: string,
    message: Uint8Array,
    signal?: AbortSignal,
  ): Promise<BlobReference> {
    const what = `uploading the result of task ${taskId}`;
    const call: HubRequest = {
      what,
      method: 'PUT',
      path: `/v1/tasks/${id(taskId)}/result-blob`,
      body: message.subarray(MESSAGE_VERSION.length),
      idempotent: true,
      timeoutMs: LARGE_TIMEOUT_MS,
    };
    const reply = await this.request(withSignal(call, signal));
    requireText(what, reply, 'sha256');
    return reply.body as BlobReference;
  }

  /** The Result message of a finished task, also of one that is too large for its document. */
  async taskResult(taskId: string, signal?: AbortSignal): Promise<Result> {
    const what = `fetching the result of task ${taskId}`;
    const call: HubRequest = {
      what,
      method: 'GET',
      path: `/v1/tasks/${id(taskId)}/result`,
      idempotent: true,
      timeoutMs: LARGE_TIMEOUT_MS,
    };
    const { body } = await this.request(withSignal(call, signal));
    return unpackResult(
      Buffer.concat([MESSAGE_VERSION, Buffer.from(JSON.stringify(body ?? null))]),
    );
  }

  /** The tasks of a group. */
  async taskGroup(taskGroupId: string, signal?: AbortSignal): Promise<TaskGroupDocument> {
    const what = `asking for task group ${taskGroupId}`;
    const reply = await this.#get(what, `/v2/taskgroup/${id(taskGroupId)}`, signal);
    requireText(what, reply, 'taskgroup_id');
    return reply.body as TaskGroupDocument;
  }

  /** Where the results of your task groups can be consumed. */
  async resultConnection(signal?: AbortSignal): Promise<ResultConnection> {
    const what = 'asking where results are delivered';
    const path = '/v2/get_amqp_result_connection_url';
    const call: HubRequest = { what, method: 'GET', path, idempotent: true };
    const reply = await this.request(withSignal(call, signal));
    return {
      queue_prefix: requireText(what, reply, 'queue_prefix'),
      connection_url: requireText(what, reply, 'connection_url'),
    };
  }

  /** What the hub says about itself. */
  async version(): Promise<HubVersion> {
    const what = 'asking for the version of the hub';
    const reply = await this.request({
      what,
      method: 'GET',
      path: '/v2/version',
      query: { service: 'all' },
      idempotent: true,
    });
    requireText(what, reply, 'api');
    return reply.body as HubVersion;
  }

  #registered(what: string, reply: JsonReply): EndpointRegistered {
    requireText(what, reply, 'endpoint_id');
    for (const info of ['task_queue_info', 'result_queue_info', 'heartbeat_queue_info']) {
      requireText(what, reply, info, 'connection_url');
    }
    return reply.body as EndpointRegistered;
  }

  async #get(what: string, path: string, signal?: AbortSignal): Promise<JsonReply> {
    return await this.request(withSignal({ what, method: 'GET', path, idempotent: true }, signal));
  }

  /** Sends any request, for routes that have no method here. @throws ComputeError when the status is no success. */
  async request({ what, ...request }: HubRequest): Promise<JsonReply> {
    const send = async (refresh: boolean): Promise<JsonReply> => {
      const { signal } = request;
      await this.#beforeRequest?.(signal);
      const token = await this.#tokens.accessToken({
        refresh,
        ...(signal === undefined ? {} : { signal }),
      });
      const headers = { ...request.headers, authorization: `Bearer ${token}` };
      return await this.#http.request({ ...request, headers });
    };
    let reply = await send(false);
    if (reply.status === 401) {
      reply = await send(true);
    }
    if (reply.status < 200 || reply.status > 299) {
      throw hubError(what, this.hubUrl, reply);
    }
    return reply;
  }
}

function withSignal(call: HubRequest, signal: AbortSignal | undefined): HubRequest {
  return signal === undefined ? call : { ...call, signal };
}
