/** The table of errors and the code that throws them say the same, in both directions. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import * as errors from '../../../src/base/errors.ts';
import { packageRoot } from '../../../src/base/package-root.ts';

const source = readFileSync(join(packageRoot(), 'src/base/errors.ts'), 'utf8');
const frames = readFileSync(join(packageRoot(), 'src/protocol/host-frames.ts'), 'utf8');
const sdk = readFileSync(join(packageRoot(), 'src/sdk/errors.ts'), 'utf8');
const document = readFileSync(join(packageRoot(), 'docs/errors.md'), 'utf8');

function section(title: string): string {
  const start = document.indexOf(`## ${title}\n`);
  const end = document.indexOf('\n## ', start + 1);
  return document.slice(start, end === -1 ? undefined : end);
}

/** Code and, where there is one, exit code of each row. */
function rowsOf(title: string): Map<string, number> {
  const rows = section(title).matchAll(/^\| `(\w+)` *\| *(\d+)?/gm);
  return new Map([...rows].map(([, code, exit]) => [code ?? '', Number(exit)]));
}

/** Members of a union of string literals. */
function unionOf(text: string, name: string): string[] {
  const declaration = new RegExp(`export type ${name} =([^;]+);`).exec(text)?.[1] ?? '';
  return [...declaration.matchAll(/'([A-Z_]+)'/g)].map(([, code]) => code ?? '');
}

type CodedError = new (code: never, message: string) => errors.ComputeError;

const CODED: readonly [string, CodedError][] = [
  ['AuthErrorCode', errors.AuthError],
  ['UnavailableErrorCode', errors.UnavailableError],
  ['ConflictErrorCode', errors.ConflictError],
  ['ProtocolErrorCode', errors.ProtocolError],
];

describe('docs/errors.md', () => {
  it('has every code of commands and libraries with its exit code, and no other', () => {
    const real = new Map<string, number>([
      ['CONFIG_INVALID', new errors.ConfigError('x').exitCode],
      ['USAGE', new errors.UsageError('x').exitCode],
      ['INVARIANT', new errors.InvariantError('x').exitCode],
    ]);
    for (const [name, type] of CODED) {
      const codes = unionOf(source, name);
      assert.ok(codes.length > 0, name);
      for (const code of codes) {
        real.set(code, new type(code as never, 'x').exitCode);
      }
    }
    const byCode = (rows: Map<string, number>): [string, number][] =>
      [...rows].sort(([a], [b]) => a.localeCompare(b));
    assert.deepEqual(byCode(rowsOf('Commands and libraries')), byCode(real));
  });

  it('has every error that the SDK adds, with its class', () => {
    const classes = new Map(
      [...sdk.matchAll(/^export class (\w+) extends ComputeError \{(.+?)^\}/gms)].flatMap(
        ([, name, body = '']) => {
          const code = /super\(\s*'([A-Z_]+)'/.exec(body)?.[1];
          return code === undefined ? [] : [[code, name]];
        },
      ) as [string, string][],
    );
    const rows = section('The TypeScript SDK').matchAll(/^\| `(\w+)` *\| `(\w+)`/gm);
    assert.ok(classes.size > 0);
    assert.deepEqual(new Map([...rows].map(([, code, name]) => [code, name])), classes);
  });

  it('has every code that our machinery gives a task', () => {
    const rows = rowsOf('Tasks');
    // ENVELOPE_INVALID goes out under the name that Globus Compute uses.
    const codes = unionOf(frames, 'TaskFailureCode').filter((code) => code !== 'ENVELOPE_INVALID');
    assert.ok(codes.length > 0);
    assert.deepEqual(
      codes.filter((code) => !rows.has(code)),
      [],
    );
  });
});
