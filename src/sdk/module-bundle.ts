/**
 * A JavaScript function that comes as a module with its packages: bundled by esbuild into one text, an expression whose value
 * is the function, as the workers compile it.
 *
 *   (() => { const module = …; <the module and everything it imports, as CommonJS> return module.exports.fn })()
 *
 * Node's own modules stay what they are at the endpoint. Native addons are refused: a text cannot carry a binary.
 */
import { basename, extname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { BuildFailure, BuildOptions, BuildResult, Message, Metafile, Plugin } from 'esbuild';

import { UnavailableError, errorCode, errorText } from '../base/errors.ts';
import { FUNCTION_BYTES_MAX } from '../protocol/limits.ts';
import { SerializationError } from './errors.ts';
import type { FunctionSource } from './function-source.ts';
import { sourceOfText } from './function-source.ts';

/** How a module is bundled. */
export interface BundleOptions {
  /** Default that of the export; of a default export, that of the file. */
  readonly name?: string;
  /** Packages that are not bundled, because the endpoint has them. */
  readonly external?: readonly string[];
  /** Whether the text is made small, at the price of readable stack traces. Default false. */
  readonly minify?: boolean;
}

/** The oldest Node.js that agents run on. */
const TARGET = 'node20';
/** Packages that look for a native addon at run time, where esbuild does not see it. */
const ADDON_LOADERS =
  /^(?:bindings|node-gyp-build|node-gyp-build-optional-packages|@mapbox\/node-pre-gyp|prebuild-install)$/;
/** What a module may ask of its own address: enough for createRequire, which then finds Node's own modules. */
const META_URL = 'outpostModuleUrl';

/** Bundles one export of a module. @throws SerializationError when it cannot be sent; UnavailableError NOT_INSTALLED. */
export async function bundleModule(
  module: string | URL,
  exportName: string,
  options: BundleOptions = {},
): Promise<FunctionSource> {
  const path = pathOf(module);
  const refuse = (why: string, cause?: unknown): SerializationError =>
    new SerializationError(`"${exportName}" of ${path} cannot be sent to an endpoint: ${why}`, {
      ...(cause === undefined ? {} : { cause }),
    });
  const build = await loadBuild();
  const { outputFiles, metafile } = await build({
    stdin: {
      contents: `export { ${JSON.stringify(exportName)} as fn } from ${JSON.stringify(path)};`,
      resolveDir: process.cwd(),
    },
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    format: 'cjs',
    target: TARGET,
    logLevel: 'silent',
    legalComments: 'none',
    keepNames: true,
    define: { 'import.meta.url': META_URL },
    minify: options.minify ?? false,
    external: [...(options.external ?? [])],
    plugins: [REFUSE_ADDONS],
  }).catch((error: unknown) => {
    throw refuse(explain(error), error);
  });
  const source = wrap(outputFiles[0]?.text ?? '');
  const bytes = Buffer.byteLength(source);
  if (bytes > FUNCTION_BYTES_MAX) {
    throw refuse(
      `with its packages it has ${megabytes(bytes)}, more than the ${megabytes(FUNCTION_BYTES_MAX)} that a function may have. ` +
        `The largest parts: ${largest(metafile)}. Import less, use { minify: true }, or name packages that the endpoint has in { external: […] }.`,
    );
  }
  const fallback = exportName === 'default' ? basename(path, extname(path)) : exportName;
  return sourceOfText(source, 'javascript', options.name ?? fallback);
}

function pathOf(module: string | URL): string {
  return module instanceof URL || module.startsWith('file:')
    ? fileURLToPath(module)
    : resolve(module);
}

/** The function that `build` of esbuild is here: with outputs in memory and a metafile. */
type Build = (options: BuildOptions) => Promise<BuildResult<{ write: false; metafile: true }>>;

/** Loaded at the first use: most programs bundle nothing. */
async function loadBuild(): Promise<Build> {
  try {
    const esbuild = await import('esbuild');
    return async (options) =>
      await esbuild.build({ ...options, write: false as const, metafile: true as const });
  } catch (error) {
    throw new UnavailableError(
      'NOT_INSTALLED',
      `bundling a module needs the package esbuild, which cannot be loaded (${errorCode(error) ?? errorText(error)}): npm install esbuild`,
      { cause: error },
    );
  }
}

const REFUSE_ADDONS: Plugin = {
  name: 'refuse-native-addons',
  setup: (build) => {
    const refuse = ({ path, importer }: { path: string; importer: string }) => ({
      errors: [
        {
          text:
            `${packageOf(importer)} loads a native addon (${path}), which no text can carry. Install the package at the endpoint ` +
            'and name it in { external: […] }, or use one that is JavaScript only',
        },
      ],
    });
    build.onResolve({ filter: /\.node$/ }, refuse);
    build.onResolve({ filter: ADDON_LOADERS }, refuse);
  },
};

/** The package that a file belongs to, for messages; the file when it is none. */
function packageOf(file: string): string {
  const name = /.*[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)/.exec(file)?.[1];
  return name === undefined ? file : `the package "${name}"`;
}

function wrap(bundle: string): string {
  const url = bundle.includes(META_URL)
    ? `const ${META_URL} = require('node:url').pathToFileURL(process.cwd() + '/function.js').href;\n`
    : '';
  return `(() => {\nconst module = { exports: {} };\n${url}((exports, module) => {\n${bundle}\n})(module.exports, module);\nreturn module.exports.fn;\n})()`;
}

/** esbuild's errors, each with its place. */
function explain(error: unknown): string {
  if (!isBuildFailure(error)) {
    return errorText(error);
  }
  return error.errors
    .map(({ text, location }: Message) =>
      location === null || location.file === '<stdin>'
        ? text
        : `${text} (${location.file}:${location.line})`,
    )
    .join('; ');
}

function isBuildFailure(error: unknown): error is BuildFailure {
  return error instanceof Error && 'errors' in error && Array.isArray(error.errors);
}

function largest(metafile: Metafile): string {
  const parts = new Map<string, number>();
  for (const { inputs } of Object.values(metafile.outputs)) {
    for (const [file, { bytesInOutput }] of Object.entries(inputs)) {
      const part = packageOf(file);
      parts.set(part, (parts.get(part) ?? 0) + bytesInOutput);
    }
  }
  return [...parts]
    .sort(([, a], [, b]) => b - a)
    .slice(0, 3)
    .map(([part, bytes]) => `${part} (${megabytes(bytes)})`)
    .join(', ');
}

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
