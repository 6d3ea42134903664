/** How commands print fields: aligned, and with nothing in them that could steer the terminal. */
import assert from 'node:assert/strict';

import { printFields } from '../../../src/cli/output.ts';

describe('printFields', () => {
  function printed(fields: Parameters<typeof printFields>[0]): string {
    const write = process.stdout.write.bind(process.stdout);
    let text = '';
    process.stdout.write = (chunk: string | Uint8Array): boolean => {
      text += String(chunk);
      return true;
    };
    try {
      printFields(fields);
    } finally {
      process.stdout.write = write;
    }
    // Bold, where the tests run on a terminal.
    return text.replaceAll('\u001B[1m', '').replaceAll('\u001B[22m', '');
  }

  it('aligns values, also their second lines, and leaves out what is absent', () => {
    assert.equal(
      printed([
        ['Id', '1'],
        ['Absent', undefined],
        ['Degraded', 'python: it ended; its stderr:\nno such library\n'],
      ]),
      'Id:        1\nDegraded:  python: it ended; its stderr:\n           no such library\n',
    );
  });

  it('prints no control characters of what others have written', () => {
    assert.equal(printed([['Said', 'a\u001B]0;title\u0007b\rc']]), 'Said:  a ]0;title b c\n');
  });
});
