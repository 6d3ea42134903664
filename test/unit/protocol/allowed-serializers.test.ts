import assert from 'node:assert/strict';

import { readAllowedSerializers, serializerObstacle } from '../../../src/protocol/serialization.ts';

function idsOf(...list: string[]): readonly string[] {
  const reading = readAllowedSerializers(list);
  assert.ok('ids' in reading, JSON.stringify(reading));
  return [...reading.ids].sort();
}

function problemOf(...list: unknown[]): string {
  const reading = readAllowedSerializers(list);
  assert.ok('problem' in reading, JSON.stringify(reading));
  return reading.problem;
}

describe('lists of allowed serializers', () => {
  it('name them by identifier, class, or either import path of the SDK', () => {
    assert.deepEqual(
      idsOf(
        'st',
        'JSONData',
        'globus_compute_sdk.serialize.DillCode',
        'globus_compute_sdk.serialize.concretes.AllDataStrategies',
      ),
      ['01', '11', '13', 'st'],
    );
    assert.deepEqual(idsOf('JavaScriptSource', 'V8Data'), ['js', 'v8']);
  });

  it('cover all of a kind with a wildcard, but neither JavaScript nor what can no longer be chosen', () => {
    assert.deepEqual(idsOf('globus_compute_sdk.*Code', 'JSONData'), [
      '01',
      '03',
      '04',
      '10',
      '11',
      '12',
      'sd',
      'st',
    ]);
    assert.deepEqual(idsOf('js', 'globus_compute_sdk.*Data'), ['00', '11', '13', 'js']);
  });

  it('must let through code and data', () => {
    assert.match(problemOf('JSONData', 'DillDataBase64'), /at least one serializer for code/);
    assert.match(problemOf('DillCode'), /at least one serializer for code and one for data/);
    assert.match(problemOf(), /at least one/);
  });

  it('do not mix a wildcard with what it covers', () => {
    assert.equal(
      problemOf('globus_compute_sdk.*Data', 'JSONData', 'DillCode'),
      'globus_compute_sdk.*Data already covers JSONData',
    );
  });

  it('name the entry that is none', () => {
    assert.equal(problemOf('JSONData', 'Nonsense'), '"Nonsense" is no serializer');
    assert.equal(problemOf('somewhere.JSONData'), '"somewhere.JSONData" is no serializer');
    assert.equal(problemOf('constructor'), '"constructor" is no serializer');
    assert.equal(problemOf(11), '11 is no serializer');
  });

  it('name what is refused and what is accepted instead, in words that the SDK recognizes', () => {
    const allowed = new Set(['st', 'js', '11']);
    assert.equal(serializerObstacle(['st\nf:', '11\n[]', '11\n{}'], allowed), undefined);
    assert.equal(
      serializerObstacle(['st\nf:', '11\n[]', '00\ngAR9lC4=\n'], allowed),
      'Data serializer DillDataBase64 disabled by current configuration. The current configuration requires the *arguments* ' +
        'to be serialized with one of the allowed Data classes. Allowed serializers: JSONData',
    );
    assert.match(
      serializerObstacle(['01\nx'], allowed) ?? '',
      /^Code serializer DillCode .*Allowed serializers: JavaScriptSource, PureSourceTextInspect$/,
    );
  });
});
