import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { SerializationError } from '../../src/sdk/errors.ts';
import { bundleModule } from '../../src/sdk/module-bundle.ts';
import { FunctionSources } from '../../src/workers/javascript/function-source.ts';

describe('bundled module', () => {
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'outpost-bundle-'));
  });

  after(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  async function write(files: Readonly<Record<string, string>>): Promise<void> {
    for (const [name, text] of Object.entries(files)) {
      const path = join(directory, name);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, text);
    }
  }

  /** What the function of a bundle returns, compiled as the workers compile it. */
  async function run(
    source: { readonly name: string; readonly source: string },
    ...args: unknown[]
  ): Promise<unknown> {
    const sources = new FunctionSources(directory);
    const fn = await sources.load(`${source.name}:${source.source}`);
    return await fn(...args);
  }

  async function refusal(work: Promise<unknown>): Promise<string> {
    try {
      await work;
    } catch (error) {
      assert.ok(error instanceof SerializationError);
      return error.message;
    }
    return assert.fail('it was not refused');
  }

  it('carries its packages, TypeScript and CommonJS alike, and uses the modules of Node.js', async () => {
    await write({
      'sum.ts': [
        "import { createHash } from 'node:crypto';",
        "import double from 'double';",
        "import { unused } from './unused.ts';",
        'export async function sum(...numbers: number[]): Promise<string> {',
        '  const total = numbers.reduce((a, b) => a + double(b), 0);',
        "  return createHash('md5').update(String(total)).digest('hex') + total;",
        '}',
        'export { unused };',
      ].join('\n'),
      'unused.ts': "export const unused = 'never used';",
      'node_modules/double/package.json': '{"name": "double", "version": "1.0.0"}',
      'node_modules/double/index.js': 'module.exports = (x) => 2 * x;',
    });
    const source = await bundleModule(join(directory, 'sum.ts'), 'sum');
    assert.equal(source.name, 'sum');
    assert.ok(!source.source.includes('never used'), 'what is not needed is left out');
    assert.match(String(await run(source, 1, 2)), /^[0-9a-f]{32}6$/);
  });

  it('takes a default export by URL, named after its file', async () => {
    await write({ 'greet.mjs': 'export default (name) => `Hello ${name}`;' });
    const url = pathToFileURL(join(directory, 'greet.mjs'));
    const source = await bundleModule(url, 'default', { minify: true });
    assert.equal(source.name, 'greet');
    assert.equal(await run(source, 'Ada'), 'Hello Ada');
    assert.equal((await bundleModule(url.href, 'default', { name: 'hi' })).name, 'hi');
  });

  it('lets a module ask for its address, and leaves out packages that the endpoint has', async () => {
    await write({
      'there.mjs': [
        "import { createRequire } from 'node:module';",
        "import { answer } from 'only-there';",
        'const require = createRequire(import.meta.url);',
        "export const there = () => [require('node:path').sep, answer];",
      ].join('\n'),
    });
    const source = await bundleModule(join(directory, 'there.mjs'), 'there', {
      external: ['only-there'],
    });
    await write({
      'node_modules/only-there/package.json': '{"name": "only-there", "version": "1.0.0"}',
      'node_modules/only-there/index.js': 'exports.answer = 42;',
    });
    assert.deepEqual(await run(source), ['/', 42]);
  });

  it('refuses native addons, and names the package', async () => {
    await write({
      'addon.mjs': "import native from 'native';\nexport const fn = () => native;",
      'node_modules/native/package.json': '{"name": "native", "version": "1.0.0"}',
      'node_modules/native/index.js': "module.exports = require('./build/native.node');",
      'gyp.mjs': "import gyp from '@me/gyp';\nexport const fn = () => gyp;",
      'node_modules/@me/gyp/package.json': '{"name": "@me/gyp", "version": "1.0.0"}',
      'node_modules/@me/gyp/index.js': "module.exports = require('node-gyp-build')(__dirname);",
    });
    const plain = await refusal(bundleModule(join(directory, 'addon.mjs'), 'fn'));
    assert.match(plain, /the package "native" loads a native addon .*external/);
    const loader = await refusal(bundleModule(join(directory, 'gyp.mjs'), 'fn'));
    assert.match(loader, /the package "@me\/gyp" loads a native addon/);
  });

  it('says what is missing, and where', async () => {
    await write({
      'missing.mjs': "import thing from 'not-installed';\nexport const fn = () => thing;",
    });
    const missing = await refusal(bundleModule(join(directory, 'missing.mjs'), 'fn'));
    assert.match(missing, /not-installed.*missing\.mjs:1/);
    assert.match(await refusal(bundleModule(join(directory, 'missing.mjs'), 'other')), /other/);
    assert.match(await refusal(bundleModule(join(directory, 'nowhere.mjs'), 'fn')), /nowhere\.mjs/);
  });

  it('tells what is too large, and the largest parts', async () => {
    await write({
      'large.mjs': `import data from 'data';\nexport const fn = () => data.length;`,
      'node_modules/data/package.json': '{"name": "data", "version": "1.0.0"}',
      'node_modules/data/index.js': `module.exports = ${JSON.stringify('x'.repeat(11 * 1024 * 1024))};`,
    });
    const message = await refusal(bundleModule(join(directory, 'large.mjs'), 'fn'));
    assert.match(message, /11\.0 MiB, more than the 10\.0 MiB .*the package "data" \(11\.0 MiB\)/);
  });

  it('is evaluated for each task, so that none sees what another left', async () => {
    await write({ 'count.mjs': 'let calls = 0;\nexport const count = () => (calls += 1);' });
    const { name, source } = await bundleModule(join(directory, 'count.mjs'), 'count');
    const sources = new FunctionSources(directory);
    const payload = `${name}:${source}`;
    const values = [await (await sources.load(payload))(), await (await sources.load(payload))()];
    assert.deepEqual(values, [1, 1]);
  });
});
