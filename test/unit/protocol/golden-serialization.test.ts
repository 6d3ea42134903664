/** The same buffers are read by python/tests/test_serialization.py; the SDK wrote them. */
import assert from 'node:assert/strict';

import {
  languageOf,
  packBuffers,
  splitSerialized,
  unpackBuffers,
} from '../../../src/protocol/serialization.ts';
import { deserializeResult } from '../../../src/sdk/serializers.ts';
import { deserializeData } from '../../../src/workers/javascript/values.ts';
import golden from '../../golden/serialization.json' with { type: 'json' };

describe('golden buffers of the Globus Compute SDK', () => {
  it('have every identifier', () => {
    const ids = [
      ...golden.data,
      ...golden.code.sources,
      ...golden.by_reference,
      { id: golden.code.byte_code[0]?.buffer.slice(0, 2) },
    ].map(({ id }) => id);
    assert.deepEqual(
      [...new Set(ids)].sort(),
      ['00', '01', '02', '03', '04', '10', '11', '12', '13', 'sd', 'st'].sort(),
    );
  });

  for (const vector of golden.data) {
    it(`data: ${vector.name}`, () => {
      const { id, payload } = splitSerialized(vector.buffer);
      assert.equal(id, vector.id);
      assert.equal(languageOf(id), undefined);
      if (id === '13') {
        assert.equal(packBuffers(unpackBuffers(payload)), payload);
      }
      if ('json' in vector) {
        assert.deepEqual(deserializeData(vector.buffer).value, vector.json);
        assert.deepEqual(deserializeResult(vector.buffer), vector.json);
      } else {
        assert.throws(() => deserializeData(vector.buffer), { code: 'BUFFER_INVALID' });
        assert.throws(() => deserializeResult(vector.buffer), /pickled Python data/);
      }
    });
  }

  for (const vector of [...golden.code.sources, ...golden.by_reference]) {
    it(`code: ${vector.name} is Python`, () => {
      const { id, payload } = splitSerialized(vector.buffer);
      assert.equal(id, vector.id);
      assert.equal(languageOf(id), 'python');
      if (id === '12') {
        assert.deepEqual(
          unpackBuffers(payload).map((part) => part.slice(0, 3)),
          ['st\n', 'sd\n', '01\n'],
        );
      }
    });
  }
});
