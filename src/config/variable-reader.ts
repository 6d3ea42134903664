/**
 * Reads variables of the environment as texts, numbers, URLs and files, and collects what is wrong with them, so that all of it is
 * reported at once. A value that may hold a password is shown without it.
 */
import { readFileSync } from 'node:fs';

import { ConfigError, errorText } from '../base/errors.ts';
import type { ConfigProblem } from '../base/errors.ts';
import { redactUrl } from '../base/redact-url.ts';
import type { Environment } from './config-sources.ts';

/** One variable, for reading and for the documentation. */
export interface Variable {
  readonly name: string;
  readonly summary: string;
  readonly defaultText?: string;
}

/** Reads variables and collects what is wrong with them. */
export class VariableReader {
  readonly #environment: Environment;
  readonly #problems: ConfigProblem[] = [];

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  refuse(variable: Variable, value: string | undefined, expected: string): void {
    this.#problems.push({
      key: variable.name,
      source: 'environment',
      ...(value === undefined ? {} : { value }),
      expected: `expected ${expected}`,
    });
  }

  text(variable: Variable): string | undefined {
    const value = this.#environment[variable.name]?.trim();
    return value === '' ? undefined : value;
  }

  integer(variable: Variable, min: number, max: number): number | undefined {
    const text = this.text(variable);
    if (text === undefined) {
      return undefined;
    }
    const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
    if (!(value >= min && value <= max)) {
      this.refuse(variable, text, `a whole number from ${min} to ${max}`);
      return undefined;
    }
    return value;
  }

  choice<T extends string>(variable: Variable, choices: readonly T[]): T | undefined {
    const text = this.text(variable);
    const choice = choices.find((candidate) => candidate === text);
    if (text !== undefined && choice === undefined) {
      this.refuse(variable, text, `one of ${choices.join(', ')}`);
    }
    return choice;
  }

  url(variable: Variable, schemes: readonly string[]): string | undefined {
    const text = this.text(variable);
    if (text === undefined) {
      return undefined;
    }
    if (!URL.canParse(text) || !schemes.includes(new URL(text).protocol)) {
      const wanted = schemes.map((scheme) => `${scheme}//`).join(' or ');
      // What cannot be taken apart is not shown: a password may stand anywhere in it.
      this.refuse(variable, redactUrl(text), `a URL that starts with ${wanted}`);
      return undefined;
    }
    return text;
  }

  requiredUrl(variable: Variable, schemes: readonly string[]): string {
    if (this.text(variable) === undefined) {
      this.refuse(variable, undefined, `to be set: ${variable.summary}`);
    }
    return this.url(variable, schemes) ?? '';
  }

  file(variable: Variable): string | undefined {
    const path = this.text(variable);
    if (path === undefined) {
      return undefined;
    }
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      this.refuse(variable, path, `a file that can be read; ${errorText(error)}`);
      return undefined;
    }
  }

  /** A variable that nobody reads any more would be ignored without a word. */
  refuseOldName(name: string, variable: Variable): void {
    if ((this.#environment[name] ?? '') !== '') {
      this.refuse({ ...variable, name }, undefined, `to be called ${variable.name} by now`);
    }
  }

  /** Takes over the problems of another reader. */
  attempt<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (error instanceof ConfigError) {
        this.#problems.push(...error.problems);
        return undefined;
      }
      throw error;
    }
  }

  finish(): void {
    if (this.#problems.length > 0) {
      throw new ConfigError('the settings of the hub are not right:', this.#problems);
    }
  }
}
