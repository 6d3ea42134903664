import assert from 'node:assert/strict';
import vm from 'node:vm';

import fc from 'fast-check';

import { packBuffers, unpackBuffers } from '../../../src/protocol/serialization.ts';
import { SerializationError } from '../../../src/sdk/errors.ts';
import {
  JSON_RESULT_SERIALIZER,
  deserializeResult,
  resultSerializersFor,
  serializeArguments,
} from '../../../src/sdk/serializers.ts';

describe('SDK serializers', () => {
  it('packs positional and keyword arguments as two JSON buffers', () => {
    const payload = serializeArguments([3, 'é😀'], { y: 4 }, 'json');
    assert.deepEqual(unpackBuffers(payload), ['11\n[3,"é😀"]', '11\n{"y":4}']);
  });

  it('brings any JSON value back as it was', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        const [args = ''] = unpackBuffers(serializeArguments([value], {}, 'json'));
        assert.deepEqual(deserializeResult(args), JSON.parse(JSON.stringify([value])));
      }),
    );
  });

  it('keeps with v8 what JSON would lose', () => {
    const value = [new Map([['a', 1n]]), new Set([1]), new Date(0), new Uint8Array([1, 2])];
    const [args = ''] = unpackBuffers(serializeArguments(value, {}, 'v8'));
    assert.match(args, /^v8\n[A-Za-z0-9+/=]+$/);
    assert.deepEqual(deserializeResult(args), value);
  });

  describe('refuses, by its path, a value that JSON would change', () => {
    const cycle: Record<string, unknown> = {};
    cycle['self'] = { cycle };
    const cases: [string, unknown, RegExp][] = [
      ['a Map', { deep: [new Map()] }, /args\[0\]\.deep\[0\].*instance of Map/],
      ['NaN', [1, Number.NaN], /args\[0\]\[1\].*NaN/],
      ['a bigint', 1n, /args\[0\].*bigint/],
      ['a function', { f: () => 1 }, /args\[0\]\.f.*function.*no data/],
      ['a promise', [Promise.resolve(1)], /args\[0\]\[0\].*`await`.*no data/],
      ['binary data', Buffer.from('x'), /args\[0\].*Buffer/],
      ['an instance of a class', new URLSearchParams(), /URLSearchParams/],
      ['a cycle', cycle, /args\[0\]\.self\.cycle.*cycle/],
    ];
    for (const [name, value, message] of cases) {
      it(name, () => {
        assert.throws(
          () => serializeArguments([value], {}, 'json'),
          (error) => {
            assert.ok(error instanceof SerializationError);
            assert.match(error.message, message);
            assert.match(error.message, /argumentFormat: 'v8'|no data/);
            return true;
          },
        );
      });
    }
  });

  it('takes what decides on its own JSON form, objects of other realms, and shared parts', () => {
    const shared = { a: 1 };
    const foreign: unknown = vm.runInNewContext('({ b: [2] })');
    const payload = serializeArguments([new Date(0), foreign, shared, shared], {}, 'json');
    assert.equal(
      unpackBuffers(payload)[0],
      '11\n["1970-01-01T00:00:00.000Z",{"b":[2]},{"a":1},{"a":1}]',
    );
  });

  it('refuses with v8 what cannot be cloned', () => {
    assert.throws(() => serializeArguments([() => 1], {}, 'v8'), SerializationError);
  });

  it('reads the JSON of a Python worker, nested or plain', () => {
    assert.deepEqual(deserializeResult('11\n{"a": [1, "\\u00e9", null]}'), { a: [1, 'é', null] });
    assert.deepEqual(
      deserializeResult(`13\n${packBuffers(['11\n[1, 2]', '00\ngASVCQAAAAAAAABdlChLAUsCZS4=\n'])}`),
      [1, 2],
    );
  });

  it('says how to get JSON when the result is pickled', () => {
    for (const buffer of ['00\ngARLAy4=\n', `13\n${packBuffers(['00\ngARLAy4=\n'])}`]) {
      assert.throws(
        () => deserializeResult(buffer),
        (error) => {
          assert.ok(error instanceof SerializationError);
          assert.ok(error.message.includes(JSON_RESULT_SERIALIZER));
          return true;
        },
      );
    }
  });

  it('explains Python’s NaN, and results that are no serialized data', () => {
    assert.throws(() => deserializeResult('11\n{"x": NaN}'), /NaN and Infinity/);
    assert.throws(() => deserializeResult('zz\nabc'), /"zz"/);
    assert.throws(() => deserializeResult(''), SerializationError);
    assert.throws(() => deserializeResult('v8\nAAAA'), SerializationError);
  });

  it('asks for JSON results unless the function is JavaScript', () => {
    const asked = { result_serializers: [JSON_RESULT_SERIALIZER] };
    assert.deepEqual(resultSerializersFor('python', 'json'), asked);
    assert.deepEqual(resultSerializersFor(undefined, 'json'), asked);
    assert.deepEqual(resultSerializersFor('javascript', 'json'), {});
    assert.deepEqual(resultSerializersFor(undefined, 'v8'), {});
  });
});
