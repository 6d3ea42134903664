import assert from 'node:assert/strict';

import { SerializationError } from '../../../src/sdk/errors.ts';
import {
  packFunctionCode,
  sourceOfFunction,
  sourceOfText,
} from '../../../src/sdk/function-source.ts';
import type { AnyFunction } from '../../../src/sdk/function-source.ts';

/* eslint-disable @typescript-eslint/unbound-method -- their text is what is wanted */

const methods = {
  shorthand(x: number) {
    return x;
  },
  async later(x: number) {
    return await Promise.resolve(x);
  },
  get value() {
    return 1;
  },
  ['computed name'](x: number) {
    return x;
  },
};

describe('function source', () => {
  const sendable: [string, AnyFunction, string][] = [
    ['a function', function add(a: number, b: number) { return a + b; }, 'add'], // prettier-ignore
    ['an async function', async function wait() { await Promise.resolve(); }, 'wait'], // prettier-ignore
    ['an arrow function with defaults', (a = (1 + 2) * 3, b = ')') => [a, b], 'anonymous'],
    ['an arrow function of one parameter', (x: number) => x, 'anonymous'],
    ['an async arrow function', async (x: number) => await Promise.resolve(x), 'anonymous'],
    ['a method', methods.shorthand, 'shorthand'],
    ['an async method', methods.later, 'later'],
  ];
  for (const [title, fn, name] of sendable) {
    it(`takes ${title}`, () => {
      const source = sourceOfFunction(fn);
      assert.equal(source.source, fn.toString());
      assert.equal(source.name, name);
    });
  }

  const refused: [string, AnyFunction | undefined, RegExp][] = [
    ['a bound function', function shout() { return 1; }.bind(undefined), /"shout".*bound/], // prettier-ignore
    ['a built-in', Math.max, /"max".*built-in/],
    [
      'a class',
      class Thing {
        n = 1;
      } as never,
      /"Thing".*class/,
    ],
    ['a generator', function* count() { yield 1; }, /"count".*generator/], // prettier-ignore
    ['a getter', Object.getOwnPropertyDescriptor(methods, 'value')?.get, /getter/],
    ['a method with a computed name', methods['computed name'], /computed name/],
  ];
  for (const [title, fn, message] of refused) {
    it(`refuses ${title}, by name and with what to do`, () => {
      assert.ok(fn !== undefined);
      assert.throws(
        () => sourceOfFunction(fn),
        (error) => error instanceof SerializationError && message.test(error.message),
      );
    });
  }

  it('packs a function by its language, counting code points', () => {
    const python = sourceOfText('def f():\n    return "😀"\n', 'python');
    assert.equal(packFunctionCode(python), '29\nst\nf:def f():\n    return "😀"\n');
    const javascript = sourceOfText('(x) => x', 'javascript', 'same');
    assert.equal(packFunctionCode(javascript), '16\njs\nsame:(x) => x');
  });

  it('finds the name of the only top-level Python function', () => {
    const source = 'import os\n\ndef outer(a):\n    def inner():\n        pass\n    return os\n';
    assert.equal(sourceOfText(source, 'python').name, 'outer');
    assert.equal(sourceOfText('async def f():\n  pass', 'python').name, 'f');
  });

  it('asks for the name when there are several, or none', () => {
    const several = 'def a():\n  pass\ndef b():\n  pass\n';
    assert.throws(() => sourceOfText(several, 'python'), /a, b.*\{ name: "b" \}/);
    assert.equal(sourceOfText(several, 'python', 'a').name, 'a');
    assert.throws(() => sourceOfText('x = 1', 'python'), /no function at its top level/);
    assert.throws(() => sourceOfText('  \n', 'javascript'), /empty/);
  });

  it('finds the name in JavaScript source', () => {
    assert.equal(sourceOfText('async function go(x) {}', 'javascript').name, 'go');
    assert.equal(sourceOfText('x => x', 'javascript').name, 'anonymous');
  });
});
