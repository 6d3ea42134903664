/** What a client and its calls can be told, and the defaults. */
import type { Clock } from '../base/clock.ts';
import type { Language } from '../protocol/serialization.ts';
import type { TokenSource } from '../transport/oauth/client-credentials.ts';
import type { TaskCall } from './batch.ts';
import type { Environment } from './environment.ts';
import type { LoginManager } from './login/index.ts';
import type { BundleOptions } from './module-bundle.ts';
import type { ArgumentFormat } from './serializers.ts';
import type { TaskSettings } from './submitter.ts';

/** Settings of a {@link Client}; what is absent comes from the environment. */
export interface ClientOptions {
  /** Default OUTPOST_HUB_URL, else http://localhost:5000. */
  readonly hubUrl?: string;
  /** With `clientSecret`. Default the first complete pair of OUTPOST_CLIENT_ID/SECRET, GLOBUS_COMPUTE_…, FUNCX_SDK_…. */
  readonly clientId?: string;
  readonly clientSecret?: string;
  /** Default the token endpoint of the hub. */
  readonly tokenEndpoint?: string;
  /** In place of client credentials: any source of access tokens. */
  readonly tokens?: TokenSource;
  /**
   * How the client signs in. Default: with the credentials above, else with the login that `agent login` left, else by asking
   * the person at the terminal. It is signed in before the first request.
   */
  readonly loginManager?: LoginManager;
  /** Whether it signs in anew although there are tokens, so that the hub looks groups and rights up afresh. Default false. */
  readonly forceLogin?: boolean;
  /** Variables to take defaults from. Default those of the process. */
  readonly environment?: Environment;
  /** Limit for one HTTP request. Default 30 s. */
  readonly timeoutMs?: number;
  /** HTTP attempts after the first. Default 4. */
  readonly retries?: number;
  /**
   * Whether this client keeps to 20 requests in 10 seconds, waiting where it must, and to 5 MB in one request or answer. Default
   * true. It binds the methods of the client; not an Executor, nor `waitForResult`, which asks ever more slowly by itself.
   */
  readonly throttlingEnabled?: boolean;
  /** Memory for tasks that have ended, which are asked for only once. Default 64 MiB; 0 keeps none. */
  readonly resultCacheBytes?: number;
  /** Authorities of hub and broker that are trusted beside the system's (PEM). Default what the file OUTPOST_CA_FILE holds. */
  readonly ca?: string;
  /** For a proxy: a fetch that knows it; then `ca` is its affair, except at the broker. */
  readonly fetch?: typeof fetch;
  readonly clock?: Clock;
}

/** Options of every request: `signal` ends it with the signal's reason, as it does for `fetch`. */
export interface CallOptions {
  readonly signal?: AbortSignal;
}

/** How a function is registered. */
export interface RegisterOptions extends CallOptions {
  /** Default the function's own name. */
  readonly name?: string;
  /** Language of a source text. Default `javascript`. */
  readonly language?: Language;
  /** By which others find it. Default its doc comment or docstring. */
  readonly description?: string;
  /** Whether everybody at the hub may run it. Default false. */
  readonly public?: boolean;
  /** Group whose members may run it. */
  readonly group?: string;
  /** Environment that it runs in, as `registerContainer` named it. */
  readonly container?: string;
}

/** How a module is registered. */
export type RegisterModuleOptions = Omit<RegisterOptions, 'language'> & BundleOptions;

/** One task: its arguments, and apart from them where and how it runs. */
export type RunCall<Args extends readonly unknown[]> = TaskCall<Args> & CallOptions & TaskSettings;

/** How a task is run whose arguments and endpoint are given before. */
export interface RunOptions extends CallOptions, TaskSettings {
  readonly kwargs?: Readonly<Record<string, unknown>>;
  /** Default `json`. */
  readonly argumentFormat?: ArgumentFormat;
}

/** How to wait for a result. */
export interface WaitOptions extends CallOptions {
  /** Default none: waits until the task ends. */
  readonly timeoutMs?: number;
}
