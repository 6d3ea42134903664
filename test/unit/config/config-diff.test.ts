/** Which changes of settings a running agent applies, and which wait for its next start. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { resolveAgentConfig } from '../../../src/config/agent-config.ts';
import type { ResolvedAgentConfig } from '../../../src/config/agent-config.ts';
import { diffAgentConfigs } from '../../../src/config/config-diff.ts';
import { parseConfigText } from '../../../src/config/config-file.ts';
import { TLS_CERTIFICATE_PEM } from '../../support/tls-fixture.ts';

function resolved(yaml: string, directory = '/endpoints/one'): ResolvedAgentConfig {
  return resolveAgentConfig({ directory, file: parseConfigText(yaml, 'config.yaml') });
}

describe('a change of settings', () => {
  it('is told apart by whether a running agent applies it', () => {
    const old = resolved('log_level: info\nmax_retries: 1\npython_interpreters: 3\n');
    const next = resolved('log_level: debug\npython_interpreters: 1\nmax_retries: 1\nreserve: 5\n');
    assert.deepEqual(diffAgentConfigs(old, next), {
      applied: [{ key: 'log_level', from: 'info', to: 'debug', source: 'config.yaml:1' }],
      restartNeeded: [
        { key: 'python_interpreters', from: 3, to: 1, source: 'config.yaml:2' },
        { key: 'reserve', from: old.config.reserve, to: 5, source: 'config.yaml:4' },
      ],
    });
  });

  it('is none when a default is written down, or lists are equal', () => {
    const id = 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee';
    const old = resolved(`allowed_functions: [${id}]\n`);
    const next = resolved(`allowed_functions: ${id.toUpperCase()}\nlog_level: info\n`);
    assert.deepEqual(diffAgentConfigs(old, next), { applied: [], restartNeeded: [] });
  });

  it('is seen when a setting is taken away', () => {
    const old = resolved('drain_at: 0 6 * * *\nresume_at: 0 8 * * *\n');
    const { applied } = diffAgentConfigs(old, resolved(''));
    assert.deepEqual(
      applied.map(({ key, to }) => [key, to]),
      [
        ['drain_at', undefined],
        ['resume_at', undefined],
      ],
    );
  });

  it('is seen when the authorities in a file have been renewed', () => {
    const directory = mkdtempSync(join(tmpdir(), 'outpost-diff-'));
    try {
      const path = join(directory, 'ca.pem');
      writeFileSync(path, TLS_CERTIFICATE_PEM);
      const old = resolved('ca_file: ca.pem\n', directory);
      writeFileSync(path, `${TLS_CERTIFICATE_PEM}\n${TLS_CERTIFICATE_PEM}`);
      const { restartNeeded } = diffAgentConfigs(old, resolved('ca_file: ca.pem\n', directory));
      assert.deepEqual(
        restartNeeded.map(({ key }) => key),
        ['ca_file'],
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
