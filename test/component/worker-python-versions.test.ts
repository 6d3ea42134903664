import assert from 'node:assert/strict';

import golden from '../golden/serialization.json' with { type: 'json' };
import { pythonsByMinor } from '../support/pythons.ts';
import { TestHost } from '../support/worker-host.ts';
import type { Answer } from '../support/worker-host.ts';

const ARGS = `11\n${JSON.stringify(golden.code.args)}`;
const KWARGS = `11\n${JSON.stringify(golden.code.kwargs)}`;

function errorText({ result }: Answer): string {
  assert.equal(result?.error_details?.code, 'RemoteExecutionError', result?.data);
  return result.data;
}

const all = [...pythonsByMinor()];
const isSupported = (minor: string): boolean => Number(minor.split('.')[1]) >= 9;

describe('worker host: minor versions of Python', function () {
  it('are found on this machine', () => {
    assert.notEqual(all.length, 0, 'put a python3.N on PATH, or install one with pyenv');
  });

  for (const [minor, executable] of all.filter(([version]) => isSupported(version))) {
    describe(`Python ${minor}`, () => {
      let host: TestHost;

      before(async () => {
        host = await TestHost.start({ python: { interpreters: 1, executable } });
        await host.placesAre(0, 1);
      });

      after(async () => {
        await host.dispose();
      });

      it('runs every source form of the SDK, and tells its own version', async () => {
        for (const { name, buffer } of golden.code.sources) {
          const answer = await host.runRaw('python', buffer, ARGS, { kwargs: KWARGS });
          assert.equal(answer.result?.error_details, null, `${name}: ${answer.result?.data ?? ''}`);
          assert.equal(answer.result.data, `11\n${golden.code.value}`, name);
          assert.match(
            String(answer.result.details?.['python_version']),
            new RegExp(`^${minor}\\.`),
          );
        }
      });

      it('refuses byte code of any other before it runs, and says what to do', async () => {
        for (const { python, buffer } of golden.code.byte_code) {
          if (python !== minor) {
            const text = errorText(await host.runRaw('python', buffer, ARGS, { kwargs: KWARGS }));
            assert.match(text, /^PythonVersionError: a function serialized as DillCode/m);
            assert.ok(text.includes(python), text);
            assert.match(text, /strategy_code=AllCodeStrategies\(\).*submit from Python 3\.\d+;/s);
          }
        }
      });
    });
  }

  for (const [minor, executable] of all.filter(([version]) => !isSupported(version))) {
    it(`Python ${minor} is told that it is too old`, async () => {
      const host = await TestHost.start({ python: { interpreters: 1, executable } });
      try {
        await host.when(() => host.degraded.length > 0);
        assert.match(
          host.degraded[0]?.reason ?? '',
          /Python 3\.9 or newer is needed, but .* is 3\./,
        );
      } finally {
        await host.dispose();
      }
    });
  }
});
