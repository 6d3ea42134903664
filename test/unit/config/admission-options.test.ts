import assert from 'node:assert/strict';

import { readOptionValue } from '../../../src/config/option-types.ts';

const SERIALIZERS = { type: 'serializer-list' } as const;
const FLAG = { type: 'flag' } as const;

describe('options about what an endpoint lets in', () => {
  it('read serializers from a YAML list or a text, as identifiers', () => {
    assert.deepEqual(readOptionValue(SERIALIZERS, ['JSONData', 'js']), { value: ['11', 'js'] });
    assert.deepEqual(readOptionValue(SERIALIZERS, 'JSONData, PureSourceDill'), {
      value: ['11', 'sd'],
    });
  });

  it('say what is wrong with a list of serializers', () => {
    for (const [raw, problem] of [
      [['JSONData'], /at least one serializer for code and one for data is needed$/],
      [['JSNData', 'js'], /"JSNData" is no serializer$/],
      [[], /at least one/],
      [7, /^a list of serializers/],
    ] as const) {
      const reading = readOptionValue(SERIALIZERS, raw);
      assert.ok('expected' in reading);
      assert.match(reading.expected, problem);
    }
  });

  it('read a flag from YAML and from text, and nothing like one', () => {
    assert.deepEqual(
      [true, false, 'true', 'false'].map((raw) => readOptionValue(FLAG, raw)),
      [{ value: true }, { value: false }, { value: true }, { value: false }],
    );
    for (const raw of ['yes', 1, '1', null]) {
      assert.deepEqual(readOptionValue(FLAG, raw), { expected: 'true or false' });
    }
  });
});
