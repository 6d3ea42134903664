/**
 * Registers functions, and remembers what an Executor has registered, so that a function expression inside a loop is
 * registered once.
 */
import type { HubClient } from '../client/hub-client.ts';
import type { FunctionRegistration } from '../protocol/rest.ts';
import type { RegisterOptions } from './client-options.ts';
import { descriptionOf } from './description.ts';
import { codeId, packFunctionCode, sourceOfFunction } from './function-source.ts';
import type { AnyFunction, FunctionSource } from './function-source.ts';
import { USER_AGENT } from './hub-connection.ts';
import { RegisteredFunction } from './registered-function.ts';

/** Enough for any program but one that writes functions; that one registers some again. */
const REGISTRATIONS_KEPT = 1024;

/** Nobody looks for what a program registers in passing. */
const UNSEEN = { searchable: false };

/** Sends one registration. */
export async function register(
  hub: HubClient,
  source: FunctionSource,
  options: RegisterOptions & { readonly searchable?: boolean } = {},
): Promise<RegisteredFunction> {
  const description = options.description ?? descriptionOf(source);
  const body: FunctionRegistration = {
    function_name: source.name,
    function_code: packFunctionCode(source),
    meta: { serde_identifier: codeId(source.language), sdk: USER_AGENT },
    ...(description === undefined ? {} : { description }),
    ...(options.public === true ? { public: true } : {}),
    ...(options.group === undefined ? {} : { group: options.group }),
    ...(options.container === undefined ? {} : { container_uuid: options.container }),
    ...(options.searchable === undefined ? {} : { searchable: options.searchable }),
  };
  const { function_uuid: functionId } = await hub.registerFunction(body, options.signal);
  return new RegisteredFunction(functionId, source.name, source.language);
}

/** Registrations by function. */
export class Registrations {
  readonly #hub: HubClient;
  readonly #byCode = new Map<string, Promise<RegisteredFunction<never>>>();
  /** The same by the function itself, whose source then need not be looked at. */
  #byFunction = new WeakMap<object, Promise<RegisteredFunction<never>>>();

  constructor(hub: HubClient) {
    this.#hub = hub;
  }

  /** The registration of a function, made at its first use. */
  async of(fn: AnyFunction | FunctionSource): Promise<RegisteredFunction<never>> {
    const known = this.#byFunction.get(fn);
    if (known !== undefined) {
      return await known;
    }
    const source = typeof fn === 'function' ? sourceOfFunction(fn) : fn;
    const key = packFunctionCode(source);
    const registration = this.#byCode.get(key) ?? register(this.#hub, source, UNSEEN);
    this.#byCode.set(key, registration);
    this.#byFunction.set(fn, registration);
    const [oldest] = this.#byCode.keys();
    if (this.#byCode.size > REGISTRATIONS_KEPT && oldest !== undefined) {
      this.#byCode.delete(oldest);
    }
    try {
      return await registration;
    } catch (error) {
      // The next use tries again.
      if (this.#byCode.get(key) === registration) {
        this.#byCode.delete(key);
      }
      this.#byFunction.delete(fn);
      throw error;
    }
  }

  /** Forgets all: another person's functions are not this one's. */
  clear(): void {
    this.#byCode.clear();
    this.#byFunction = new WeakMap();
  }
}
