import assert from 'node:assert/strict';

import fc from 'fast-check';

import { jsonString } from '../../../src/protocol/json-string.ts';

describe('a large text as a JSON string', () => {
  const long = 'x'.repeat(32_767);

  it('is what JSON.stringify makes of it, whatever stands where it is cut', () => {
    const odd = ['"', '\\', '\n', '\u0000', '\ud83d\ude00', '\ud83d', '\ude00', 'é', '\u2028', ''];
    for (const before of odd) {
      for (const after of odd) {
        for (const text of [`${long}${before}${after}`, `${long}y${before}${long}${after}`]) {
          assert.ok(jsonString(text) === JSON.stringify(text), JSON.stringify([before, after]));
        }
      }
    }
  });

  it('is what JSON.stringify makes of any text', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.string({ unit: 'binary' }), fc.constant(long)), { maxLength: 6 }),
        (parts) => {
          const text = parts.join('');
          assert.ok(jsonString(text) === JSON.stringify(text), JSON.stringify([before, after]));
        },
      ),
      { numRuns: 200 },
    );
  });
});
