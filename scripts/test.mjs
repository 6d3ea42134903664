/**
 * `npm test`: from a bare checkout to one line that says how many tests passed.
 *
 *   npm test                                 everything
 *   npm test -- unit component               these suites
 *   npm test -- --grep "redelivers"          tests whose title matches, in all suites
 *   npm test -- test/unit/base/errors.test.ts
 *
 * Installs what is missing (prerequisites.mjs), runs `npm ci` when node_modules is not what the lock says, builds, checks, and runs the
 * suites in a network namespace of their own. The last line is always "N passed, N failed"; OUTPOST_TEST_SKIP_INTEROP=1 leaves
 * out the suite that needs a Python package index.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { dependenciesInstalled, pruneOutputs, ROOT, runQuietly } from './bootstrap.mjs';
import { isPortFree, namespacePrefix } from './namespace.mjs';
import { ensurePrerequisites, explainMissing } from './prerequisites.mjs';
import { ensureSchemathesis } from './schemathesis-venv.mjs';
import { CLASSIC_SDK, ensureSdkVenv, FUNCX_SDK, OLDEST_SDK } from './sdk-venv.mjs';
import { missingProofs, suitesOfProofs } from './seed-proofs.mjs';
import { failedTally, hasTests, SUITES, tally } from './suites.mjs';

const CHECKS = ['lint', 'format', 'layers', 'unused'];
const SDK_PORT = 5000;

/** Splits the command line into suites, files, and what is for mocha. */
function parseArguments(argv) {
  const names = new Set(['checks', ...SUITES.map(({ name }) => name)]);
  const suites = new Set();
  const specs = {};
  let index = 0;
  for (; index < argv.length && !argv[index].startsWith('-'); index += 1) {
    const file = /^(?:\.\/)?test\/([a-z]+)\/.*\.test\.ts$/.exec(argv[index]);
    if (names.has(argv[index])) {
      suites.add(argv[index]);
    } else if (file !== null && names.has(file[1])) {
      suites.add(file[1]);
      (specs[file[1]] ??= []).push(
        `build/${argv[index].replace(/^\.\//, '').replace(/ts$/, 'js')}`,
      );
    } else {
      console.error(
        `unknown: ${argv[index]}\nusage: npm test -- [${[...names].join('|')}|test/…/x.test.ts]… [mocha options]`,
      );
      process.exit(64);
    }
  }
  const mochaArgs = argv.slice(index);
  const isMocha = (name) => name !== 'checks' && name !== 'python';
  const all = [...names].filter(
    (name) => name === 'checks' || (hasTests(name) && (mochaArgs.length === 0 || isMocha(name))),
  );
  const chosen = suites.size > 0 ? [...suites] : mochaArgs.length > 0 ? all.filter(isMocha) : all;
  return { chosen, specs, mochaArgs };
}

/** Runs a check to its end; its output only matters when it fails. */
async function capture(name, command, args) {
  const { ok, text, durationMs } = await runQuietly(command, args);
  console.log(`${ok ? '✔' : '✘'} ${name} (${(durationMs / 1000).toFixed(1)} s)`);
  if (ok) {
    return tally(name, { passed: 1, durationMs });
  }
  console.log(text.trimEnd());
  return failedTally(name, `${command} ${args.join(' ')} failed; see above`, durationMs);
}

async function build() {
  pruneOutputs('build', '.');
  pruneOutputs('dist', 'src');
  return await Promise.all([
    capture('build for tests', 'npm', ['run', '--silent', 'build:test']),
    capture('build', 'npm', ['run', '--silent', 'build']),
  ]);
}

async function check() {
  const results = [
    await capture('lock', process.execPath, ['scripts/complete-lock.mjs', '--check']),
  ];
  for (const name of CHECKS) {
    results.push(await capture(name, 'npm', ['run', '--silent', `check:${name}`]));
  }
  return results;
}

/** Runs the suites in their namespace; a runner that dies loses none of what it had written. */
async function runSuites(plan) {
  const scratch = mkdtempSync(join(tmpdir(), 'outpost-run-'));
  const output = join(scratch, 'results.json');
  const planFile = join(scratch, 'plan.json');
  try {
    const { prefix, reason } = namespacePrefix();
    if (reason !== undefined) {
      console.log(`no network namespace (${reason}): running on this host's own network`);
      if (plan.suites.includes('interop') && !(await isPortFree(SDK_PORT))) {
        plan.blocked.interop ??= `port ${SDK_PORT}, the only one that the SDK knows, is taken on this host and no network namespace can be made; end what listens there (ss -ltnp 'sport = :${SDK_PORT}')`;
      }
    }
    writeFileSync(planFile, JSON.stringify({ ...plan, output }));
    const [file, ...args] = [...prefix, process.execPath, 'scripts/run-suites.mjs', planFile];
    const child = spawn(file, args, { cwd: ROOT, stdio: 'inherit' });
    const forward = (signal) => child.kill(signal);
    process.on('SIGINT', forward);
    process.on('SIGTERM', forward);
    process.on('SIGHUP', forward);
    const ended = await new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) =>
        resolve(code === 0 ? undefined : (signal ?? `code ${code}`)),
      );
    });
    const results = existsSync(output) ? JSON.parse(readFileSync(output, 'utf8')) : [];
    if (ended !== undefined) {
      const missing = plan.suites.filter((name) => !results.some((result) => result.name === name));
      const notRun = missing.length === 0 ? '' : `; not finished: ${missing.join(', ')}`;
      results.push(failedTally('runner', `ended before its suites did (${ended})${notRun}`));
    }
    return results;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function report(results, begun) {
  const sum = (field) => results.reduce((total, result) => total + result[field], 0);
  console.log('\n━━ summary ━━');
  for (const { name, passed, failed, skipped, durationMs } of results) {
    const counts = `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
    console.log(`${name.padEnd(16)} ${counts.padEnd(36)} ${(durationMs / 1000).toFixed(1)} s`);
  }
  const failures = results.flatMap(({ name, failures: list }) =>
    list.map((one) => ({ name, ...one })),
  );
  for (const { name, title, message } of failures) {
    console.log(`\n✘ [${name}] ${title}\n    ${message.replaceAll('\n', '\n    ')}`);
  }
  console.log(`\n${((performance.now() - begun) / 1000).toFixed(0)} s in all`);
  const skipped = sum('skipped');
  console.log(
    `${sum('passed')} passed, ${sum('failed')} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`,
  );
  process.exitCode = sum('failed') > 0 ? 1 : 0;
}

/** Prepares the machine; returns what stands in the way of which suites. */
async function prepare(suites) {
  const needs = SUITES.filter(({ name }) => suites.includes(name));
  const wanted = [
    'util-linux',
    ...(needs.some(({ services }) => services) ? ['broker', 'database'] : []),
    ...(needs.some(({ services, name }) => services || name === 'python') ? ['python'] : []),
    ...(suites.includes('chaos') ? ['faketime'] : []),
    ...(suites.includes('component') ? ['bubblewrap', 'modules'] : []),
    ...(suites.includes('integration') ? ['systemd', 'cron', 'supervisor'] : []),
  ];
  const missing = await ensurePrerequisites({ wanted });
  const blocked = {};
  if (missing.length > 0) {
    const text = explainMissing(missing);
    console.log(text);
    for (const { name, services } of needs) {
      if (services || missing.some((one) => one.name === name || one.name === 'util-linux')) {
        blocked[name] = text;
      }
    }
  }
  return blocked;
}

/** Every proof that docs/seeds.md names must have run. */
function proofsTally(results) {
  const missing = missingProofs(results.flatMap(({ titles }) => titles));
  return missing.length === 0
    ? tally('proofs', { passed: 1 })
    : failedTally('proofs', `docs/seeds.md names tests as proofs:\n${missing.join('\n')}`);
}

async function main(begun) {
  const { chosen, specs, mochaArgs } = parseArguments(process.argv.slice(2));
  let suites = chosen.filter((name) => name !== 'checks');
  const results = [];

  const blocked = await prepare(suites);
  if (!dependenciesInstalled()) {
    const install = await capture('npm ci', 'npm', ['ci']);
    if (install.failed > 0) {
      report([install], begun);
      return;
    }
  }
  if (suites.includes('interop') && process.env.OUTPOST_TEST_SKIP_INTEROP === '1') {
    suites = suites.filter((name) => name !== 'interop');
    results.push(tally('interop', { skipped: 1 }));
  }
  const needsVenv = SUITES.some(
    ({ name, services }) => (services || name === 'python') && suites.includes(name),
  );
  const isInterop = suites.includes('interop') && blocked.interop === undefined;
  const [builds, checks, venv, oldVenv, classicVenv, funcxVenv, schemathesis] = await Promise.all([
    build(),
    chosen.includes('checks') ? check() : [],
    needsVenv && blocked.interop === undefined ? ensureSdkVenv(ROOT) : {},
    isInterop ? ensureSdkVenv(ROOT, { version: OLDEST_SDK }) : {},
    isInterop ? ensureSdkVenv(ROOT, CLASSIC_SDK) : {},
    isInterop ? ensureSdkVenv(ROOT, FUNCX_SDK) : {},
    isInterop ? ensureSchemathesis(ROOT) : {},
  ]);
  results.push(...builds, ...checks);
  const installs = [venv, oldVenv, classicVenv, funcxVenv, schemathesis];
  for (const { problem, distribution, version } of installs) {
    if (problem !== undefined) {
      console.log(problem);
      blocked.interop ??= `${problem}\nOUTPOST_TEST_SKIP_INTEROP=1 leaves this suite out.`;
    } else if (version !== undefined && isInterop) {
      console.log(`interop against ${distribution} ${version}`);
    }
  }
  if (suites.length > 0) {
    const environment = {
      ...(venv.python !== undefined && {
        OUTPOST_TEST_DILL_PYTHON: venv.python,
        OUTPOST_TEST_SDK_PYTHON: venv.python,
      }),
      ...(oldVenv.python !== undefined && { OUTPOST_TEST_OLD_SDK_PYTHON: oldVenv.python }),
      ...(classicVenv.python !== undefined && {
        OUTPOST_TEST_CLASSIC_SDK_PYTHON: classicVenv.python,
      }),
      ...(funcxVenv.python !== undefined && { OUTPOST_TEST_FUNCX_PYTHON: funcxVenv.python }),
      ...(schemathesis.command !== undefined && {
        OUTPOST_TEST_SCHEMATHESIS: schemathesis.command,
      }),
    };
    results.push(...(await runSuites({ suites, specs, mochaArgs, blocked, environment })));
    const isWhole = mochaArgs.length === 0 && Object.keys(specs).length === 0;
    if (isWhole && [...suitesOfProofs()].every((name) => suites.includes(name))) {
      results.push(proofsTally(results));
    }
  }
  report(results, begun);
}

const begun = performance.now();
try {
  await main(begun);
} catch (error) {
  report([failedTally('npm test', error.stack ?? String(error))], begun);
}
