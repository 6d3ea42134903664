/** The guide of the SDK says something about everything that a program can call. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { packageRoot } from '../../../src/base/package-root.ts';
import * as sdk from '../../../src/sdk/index.ts';

/** Public members of a class and of what it extends. */
function membersOf(made: { readonly prototype: object }): string[] {
  const names: string[] = [];
  for (
    let level = made.prototype;
    level !== Object.prototype;
    level = Object.getPrototypeOf(level) as object
  ) {
    names.push(...Object.getOwnPropertyNames(level));
  }
  const own = Object.getOwnPropertyNames(made).filter((name) => /^[a-z]+[A-Z]?/.test(name));
  const inherent = new Set(['constructor', 'length', 'name', 'prototype']);
  return [...names, ...own].filter((name) => !inherent.has(name));
}

describe('the guide of the SDK', () => {
  const guide = readFileSync(join(packageRoot(), 'docs/sdk.md'), 'utf8');
  const isNamed = (name: string): boolean => new RegExp(String.raw`\b${name}\b`).test(guide);

  it('has every method of the Client and the Executor', () => {
    const names = [...membersOf(sdk.Client), ...membersOf(sdk.Executor), ...membersOf(sdk.Batch)];
    // For the Executor alone, and not for programs.
    const internal = new Set(['registrationOf']);
    assert.deepEqual(
      [...new Set(names)].filter((name) => !internal.has(name) && !isNamed(name)).sort(),
      [],
    );
  });

  it('has every class that is exported', () => {
    assert.deepEqual(
      Object.keys(sdk).filter((name) => !isNamed(name)),
      [],
    );
  });
});
