/** A function that the hub knows, with the types of the function it was made from. */
import type { Language } from '../protocol/serialization.ts';

declare const signature: unique symbol;

/** Handle of a registered function; in a text it reads as its id. */
export class RegisteredFunction<
  Args extends readonly unknown[] = readonly unknown[],
  Result = unknown,
> {
  /** Carries the types through `submit` and `run`; has no value. */
  declare readonly [signature]: (...args: Args) => Result;
  readonly id: string;
  readonly name: string;
  readonly language: Language;

  constructor(id: string, name: string, language: Language) {
    this.id = id;
    this.name = name;
    this.language = language;
  }

  /** The id. */
  toString(): string {
    return this.id;
  }

  /** The id. */
  toJSON(): string {
    return this.id;
  }
}

/** A function by its handle or its id. */
export type FunctionReference<Args extends readonly unknown[] = never, Result = unknown> =
  string | RegisteredFunction<Args, Result>;
