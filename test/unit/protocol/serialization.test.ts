import assert from 'node:assert/strict';

import fc from 'fast-check';

import {
  codePointLength,
  languageOf,
  packBuffers,
  serializeJson,
  splitSerialized,
  unpackBuffers,
} from '../../../src/protocol/serialization.ts';

describe('packed buffers', () => {
  it('count code points, as Python does', () => {
    // Worked example of the protocol: é is one, an emoji is one (two UTF-16 units).
    assert.equal(packBuffers(['st\nf:# é😀\ndef f(): pass\n']).split('\n')[0], '24');
  });

  it('take the worked example apart', () => {
    const packed = '41\nst\nadd:def add(x, y=1):\n    return x + y\n6\n11\n[3]11\n11\n{"y": 4}';
    assert.deepEqual(unpackBuffers(packed), [
      'st\nadd:def add(x, y=1):\n    return x + y\n',
      '11\n[3]',
      '11\n{"y": 4}',
    ]);
  });

  it('survive a round trip with any text', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary' })), (buffers) => {
        assert.deepEqual(unpackBuffers(packBuffers(buffers)), buffers);
      }),
    );
  });

  it('count any text as the string iterator does', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        assert.equal(codePointLength(text), Array.from(text).length);
      }),
    );
  });

  it('never do worse than a named refusal on garbage', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          unpackBuffers(text);
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'BUFFER_INVALID');
        }
      }),
    );
  });

  it('refuse a length that the text does not have', () => {
    assert.throws(() => unpackBuffers('9\nabc'), { code: 'BUFFER_INVALID' });
    assert.throws(() => unpackBuffers('x\nabc'), { code: 'BUFFER_INVALID' });
  });
});

describe('serialized buffers', () => {
  it('name the language of a function', () => {
    assert.equal(languageOf('js'), 'javascript');
    for (const id of ['01', '02', '03', '04', '10', '12', 'st', 'sd']) {
      assert.equal(languageOf(id), 'python');
    }
    assert.equal(languageOf('11'), undefined);
  });

  it('are split at the identifier', () => {
    assert.deepEqual(splitSerialized('11\n[1]\n'), { id: '11', payload: '[1]\n' });
    assert.throws(() => splitSerialized('11'), { code: 'BUFFER_INVALID' });
  });

  it('write undefined as null', () => {
    assert.equal(serializeJson(undefined), '11\nnull');
  });
});
