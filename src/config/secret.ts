/**
 * A value that refuses to be printed: interpolating, serializing or inspecting it says `[secret]`, and only `reveal()`,
 * which is easy to search for, hands it out.
 */
import { inspect } from 'node:util';

import { SECRET_PLACEHOLDER } from '../base/blank-secrets.ts';

/** A secret text. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The text itself, for the one place that sends it. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return SECRET_PLACEHOLDER;
  }

  toJSON(): string {
    return SECRET_PLACEHOLDER;
  }

  [inspect.custom](): string {
    return SECRET_PLACEHOLDER;
  }
}
