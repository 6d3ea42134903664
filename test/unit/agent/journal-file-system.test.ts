import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';

import {
  fileSystemNotices,
  fileSystemOf,
  networkFileSystem,
} from '../../../src/agent/journal/file-system.ts';

describe('the file system of a journal', () => {
  it('is warned about, by name, when it is a network file system', () => {
    const types: readonly (readonly [number, string])[] = [
      [0x6969, 'NFS'],
      [0x0bd00bd0, 'Lustre'],
      [0x517b, 'SMB'],
      [0x00c36400, 'CephFS'],
    ];
    for (const [type, network] of types) {
      assert.equal(networkFileSystem(type), network);
      const [notice = ''] = fileSystemNotices({ network });
      assert.match(notice, new RegExp(`network file system \\(${network}\\).*OUTPOST_HOME`));
    }
  });

  it('is recognised however the type was sign-extended', () => {
    // CIFS has the highest bit set: a 32-bit statfs gives a negative number.
    assert.equal(networkFileSystem(0xff534d42 | 0), 'CIFS');
    assert.equal(networkFileSystem(0xff534d42), 'CIFS');
  });

  it('is no reason for a word when it is local', async () => {
    const ext4 = 0xef53;
    assert.equal(networkFileSystem(ext4), undefined);
    assert.deepEqual(fileSystemNotices({ network: undefined }), []);
    assert.ok((await fileSystemOf(tmpdir())).freeBytes > 0);
  });
});
