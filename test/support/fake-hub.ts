/**
 * A small hub for tests of its clients: a real HTTP server with tokens, functions, submissions and task documents, that can be
 * told to misbehave on the next requests. It carries no tasks anywhere: a test says how they end.
 */
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import type {
  FunctionRegistration,
  ResultConnection,
  Submission,
  TaskDocument,
} from '../../src/protocol/rest.ts';

/** A request as it arrived. */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
}

/** What to do instead of answering properly. */
export interface Misbehaviour {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** JSON when an object, sent as it is when a text. */
  readonly body?: unknown;
  /** Drop the connection, before acting on the request or after. */
  readonly drop?: 'before' | 'after';
  /** Never answer. */
  readonly hang?: boolean;
  /** It answers when this has resolved. */
  readonly until?: Promise<void>;
}

/** A task that was submitted. */
export interface FakeTask {
  readonly id: string;
  readonly functionId: string;
  readonly endpointId: string;
  readonly payload: string;
  readonly submission: Submission;
}

interface Reply {
  readonly status: number;
  readonly body: unknown;
}

/** Error document of the hub. */
export function errorBody(status: number, code: string, detail: string): Record<string, unknown> {
  return {
    status: 'Failed',
    code,
    error_args: [],
    http_status_code: status,
    detail,
    reason: detail,
  };
}

/** The server. */
export class FakeHub {
  readonly clientId = randomUUID();
  readonly clientSecret = 'a secret: with/odd+characters';
  readonly taskGroupId = randomUUID();
  readonly requests: SeenRequest[] = [];
  readonly functions = new Map<string, FunctionRegistration>();
  readonly tasks = new Map<string, FakeTask>();
  readonly documents = new Map<string, TaskDocument>();
  resultConnection: ResultConnection = {
    queue_prefix: 'me.',
    connection_url: 'amqp://127.0.0.1:1',
  };
  expiresInS = 3600;
  /** Answers registrations of endpoints. */
  onRegister: (() => Record<string, unknown>) | undefined;
  /** Called before a submission is answered. */
  onSubmit: (tasks: readonly FakeTask[]) => Promise<void> | void = () => undefined;
  readonly #server: Server;
  readonly #misbehaviours: { path: string; behaviour: Misbehaviour }[] = [];
  readonly #submissions = new Map<string, Reply>();
  readonly #tokens = new Set<string>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<FakeHub> {
    const server = createServer();
    const hub = new FakeHub(server);
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      hub.#serve(request, response).catch(() => response.destroy());
    });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    return hub;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get tokenEndpoint(): string {
    return `${this.url}/v2/oauth2/token`;
  }

  /** Misbehaves on the next requests whose path contains `path`, one behaviour each. */
  misbehave(path: string, ...behaviours: Misbehaviour[]): void {
    this.#misbehaviours.push(...behaviours.map((behaviour) => ({ path, behaviour })));
  }

  /** Forgets every token, as a hub that was restarted without its memory. */
  forgetTokens(): void {
    this.#tokens.clear();
  }

  /** Requests to a path so far. */
  seen(path: string): SeenRequest[] {
    return this.requests.filter((request) => request.path.includes(path));
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) {
      chunks.push(chunk as Buffer);
    }
    const seen: SeenRequest = {
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      text: Buffer.concat(chunks).toString('utf8'),
    };
    this.requests.push(seen);
    const behaviour = this.#nextMisbehaviour(seen.path);
    await behaviour?.until;
    if (behaviour?.hang === true) {
      return;
    }
    if (behaviour?.drop === 'before') {
      request.socket.destroy();
      return;
    }
    if (behaviour?.status !== undefined) {
      const isText = typeof behaviour.body === 'string';
      response.writeHead(behaviour.status, {
        'content-type': isText ? 'text/plain' : 'application/json',
        ...behaviour.headers,
      });
      response.end(isText ? behaviour.body : JSON.stringify(behaviour.body ?? {}));
      return;
    }
    const reply = await this.#route(seen);
    if (behaviour?.drop === 'after') {
      request.socket.destroy();
      return;
    }
    response.writeHead(reply.status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(reply.body));
  }

  #nextMisbehaviour(path: string): Misbehaviour | undefined {
    const index = this.#misbehaviours.findIndex((item) => path.includes(item.path));
    return index === -1 ? undefined : this.#misbehaviours.splice(index, 1)[0]?.behaviour;
  }

  async #route(request: SeenRequest): Promise<Reply> {
    const [path = ''] = request.path.split('?');
    if (path === '/v2/oauth2/token') {
      return this.#token(request);
    }
    if (!this.#tokens.has((request.headers.authorization ?? '').replace('Bearer ', ''))) {
      return { status: 401, body: errorBody(401, 'USER_UNAUTHENTICATED', 'token not known') };
    }
    if (path.startsWith('/v3/endpoints') && this.onRegister !== undefined) {
      return { status: 200, body: this.onRegister() };
    }
    const submit = /^\/v3\/endpoints\/([^/]+)\/submit$/.exec(path)?.[1];
    if (submit !== undefined) {
      return await this.#submit(submit, request);
    }
    const task = /^\/v2\/tasks\/([^/]+)$/.exec(path)?.[1];
    if (task !== undefined) {
      const document = this.#document(task);
      return document === undefined
        ? { status: 404, body: errorBody(404, 'TASK_NOT_FOUND', `no task ${task}`) }
        : { status: 200, body: document };
    }
    switch (path) {
      case '/v2/version':
        return { status: 200, body: { api: '1.0', min_sdk_version: '1', min_ep_version: '1' } };
      case '/v3/functions':
        return this.#register(request);
      case '/v2/batch_status':
        return this.#batchStatus(request);
      case '/v2/get_amqp_result_connection_url':
        return { status: 200, body: this.resultConnection };
      case `/v2/taskgroup/${this.taskGroupId}`:
        return {
          status: 200,
          body: {
            taskgroup_id: this.taskGroupId,
            tasks: [...this.tasks.keys()].map((id) => ({ id })),
          },
        };
      default:
        return { status: 404, body: errorBody(404, 'ENDPOINT_NOT_FOUND', `no route ${path}`) };
    }
  }

  #token(request: SeenRequest): Reply {
    const [, encoded = ''] = (request.headers.authorization ?? '').split(' ');
    const [id = '', secret = ''] = Buffer.from(encoded, 'base64').toString('utf8').split(':');
    const form = new URLSearchParams(request.text);
    const decode = (text: string): string => decodeURIComponent(text.replaceAll('+', ' '));
    if (id !== this.clientId || decode(secret) !== this.clientSecret) {
      return { status: 401, body: { error: 'invalid_client' } };
    }
    const token = randomUUID();
    this.#tokens.add(token);
    return {
      status: 200,
      body: {
        access_token: token,
        scope: form.get('scope'),
        resource_server: 'funcx_service',
        expires_in: this.expiresInS,
        token_type: 'Bearer',
        other_tokens: [],
      },
    };
  }

  #register(request: SeenRequest): Reply {
    const id = randomUUID();
    this.functions.set(id, JSON.parse(request.text) as FunctionRegistration);
    return { status: 200, body: { function_uuid: id } };
  }

  async #submit(endpointId: string, request: SeenRequest): Promise<Reply> {
    const key = request.headers['idempotency-key'];
    const repeated = typeof key === 'string' ? this.#submissions.get(key) : undefined;
    if (repeated !== undefined) {
      return repeated;
    }
    const submission = JSON.parse(request.text) as Submission;
    const made: FakeTask[] = [];
    const ids: Record<string, string[]> = {};
    for (const [functionId, payloads] of Object.entries(submission.tasks)) {
      ids[functionId] = payloads.map((payload) => {
        const task = { id: randomUUID(), functionId, endpointId, payload, submission };
        made.push(task);
        this.tasks.set(task.id, task);
        return task.id;
      });
    }
    const reply = {
      status: 200,
      body: {
        request_id: randomUUID(),
        task_group_id: this.taskGroupId,
        endpoint_id: endpointId,
        tasks: ids,
      },
    };
    if (typeof key === 'string') {
      this.#submissions.set(key, reply);
    }
    await this.onSubmit(made);
    return reply;
  }

  #document(taskId: string): TaskDocument | undefined {
    return (
      this.documents.get(taskId) ??
      (this.tasks.has(taskId) ? { task_id: taskId, status: 'waiting-for-ep' } : undefined)
    );
  }

  #batchStatus(request: SeenRequest): Reply {
    const { task_ids: taskIds } = JSON.parse(request.text) as { task_ids: string[] };
    const results: Record<string, TaskDocument> = {};
    for (const taskId of taskIds) {
      const document = this.#document(taskId);
      if (document !== undefined) {
        results[taskId] = document;
      }
    }
    return { status: 200, body: { response: 'batch', results } };
  }
}
