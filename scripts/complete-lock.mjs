/**
 * Completes package-lock.json with the optional packages of other platforms.
 *
 *   node scripts/complete-lock.mjs [--check]
 *
 * A registry mirror may hold the packages of one platform only. npm then leaves the others out of the lock that it writes, and refuses
 * that very lock in `npm ci` ("Missing: … from lock file"), here and everywhere. Run this after `npm install`. An entry needs no more than its
 * version: npm skips what is for another platform, and looks the rest up where it is wanted. `--check` only tells.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const PATH = join(import.meta.dirname, '..', 'package-lock.json');
const SYSTEMS = 'aix android darwin freebsd linux netbsd openbsd openharmony sunos win32'.split(
  ' ',
);
const PROCESSORS = 'arm arm64 ia32 loong64 mips64el ppc64 riscv64 s390x wasm32 x64'.split(' ');

/** Every place at which node looks for `name` from a package at `where`. */
function places(where, name) {
  const found = [];
  for (let base = where; base !== '';) {
    found.push(`${base}/node_modules/${name}`);
    base = base.slice(0, Math.max(0, base.lastIndexOf('/node_modules/')));
  }
  return [...found, `node_modules/${name}`];
}

/** The entry for a package of which only the name and the version are known. */
function entryFor(name, version, parent) {
  const words = name.split(/[-/]/);
  const only = (field, values) => {
    const named = values.filter((value) => words.includes(value));
    return named.length === 0 ? {} : { [field]: named };
  };
  return {
    version,
    ...only('cpu', PROCESSORS),
    ...(parent.dev === true ? { dev: true } : {}),
    optional: true,
    ...only('os', SYSTEMS),
  };
}

const lock = JSON.parse(readFileSync(PATH, 'utf8'));
const missing = [];
for (const [where, parent] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    const isThere = places(where, name).some((place) => place in lock.packages);
    // A range would have to be resolved; platform packages are always named by one version.
    if (!isThere && /^\d+\.\d+\.\d+/.test(version)) {
      missing.push([`node_modules/${name}`, entryFor(name, version, parent)]);
    }
  }
}
if (missing.length === 0) {
  console.log('package-lock.json is complete');
} else if (process.argv.includes('--check')) {
  console.error(
    `package-lock.json lacks ${missing.length} optional packages, and npm ci refuses it; run: node scripts/complete-lock.mjs`,
  );
  process.exitCode = 1;
} else {
  const entries = [...Object.entries(lock.packages), ...missing];
  entries.sort(([a], [b]) => a.localeCompare(b, 'en'));
  lock.packages = Object.fromEntries(entries);
  writeFileSync(PATH, `${JSON.stringify(lock, undefined, 2)}\n`);
  console.log(`added ${missing.length} optional packages to package-lock.json`);
}
