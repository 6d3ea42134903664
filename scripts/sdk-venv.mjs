/**
 * The Python environments with unmodified SDKs that the interop suite runs against: the newest globus-compute-sdk, the oldest that
 * we vouch for, the last 2.x, and the funcX that the first of the project's two documents describes. They are kept in .cache/ and made
 * anew when they are broken; once a week the newest SDK is asked for, and the one that is there serves when no index can be reached. A
 * pinned version never grows old.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The oldest version that the interop suite runs with. */
export const OLDEST_SDK = '4.15.0';

/** The last SDK with login managers; nothing newer will be called 2. */
export const CLASSIC_SDK = { distribution: 'globus-compute-sdk', version: '2.34.0' };

/** The last funcX whose batches are those of its document, and the newest that still has `search_function` as well. */
export const FUNCX_SDK = { distribution: 'funcx', version: '1.0.4' };

const FRESH_MS = 7 * 24 * 3600 * 1000;
const INSTALL_LIMIT_MS = 10 * 60_000;

/** Imports what is used, and says which version it is. */
function probeOf(distribution) {
  const module = distribution.replaceAll('-', '_');
  return `import dill, ${module}.sdk.client; print(${module}.__version__)`;
}

async function capture(file, args, timeout = INSTALL_LIMIT_MS) {
  return await new Promise((resolve) => {
    let text = '';
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        text += chunk.toString('utf8');
      });
    }
    child.once('error', (error) => resolve({ ok: false, text: error.message }));
    child.once('close', (code) => resolve({ ok: code === 0, text: text.trim() }));
  });
}

/** An environment may serve as it is: it works, has the wanted version, and is not due for a look at the index. */
function serves(installed, marker, { upgrade, version }) {
  if (!installed.ok) {
    return false;
  }
  if (version !== undefined) {
    return installed.text === version;
  }
  return !upgrade || Date.now() - Number(readFileSync(marker, 'utf8')) < FRESH_MS;
}

/**
 * Returns the interpreter and the SDK's version, or the problem. Without `upgrade` any SDK that is there will do; `version` asks for
 * exactly one.
 */
export async function ensureSdkVenv(
  root,
  { upgrade = true, version, distribution = 'globus-compute-sdk' } = {},
) {
  const probeCode = probeOf(distribution);
  const of = distribution === 'globus-compute-sdk' ? '' : `-${distribution}`;
  const name = version === undefined ? 'interop-venv' : `interop-venv${of}-${version}`;
  const directory = join(root, '.cache', name);
  const marker = join(directory, 'checked-at');
  const python = join(directory, 'bin', 'python');
  const installed = existsSync(marker) ? await capture(python, ['-c', probeCode]) : { ok: false };
  if (serves(installed, marker, { upgrade, version })) {
    return { python, distribution, version: installed.text };
  }
  if (!installed.ok) {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(join(root, '.cache'), { recursive: true });
    const made = await capture('/usr/bin/python3', ['-m', 'venv', directory]);
    if (!made.ok) {
      return { problem: `/usr/bin/python3 -m venv failed: ${made.text}` };
    }
  }
  const wanted = `${distribution}${version === undefined ? '' : `==${version}`}`;
  const pip = await capture(python, ['-m', 'pip', 'install', '--upgrade', wanted]);
  const probe = await capture(python, ['-c', probeCode]);
  if (!probe.ok || (version !== undefined && probe.text !== version)) {
    const lastLines = pip.text.split('\n').slice(-3).join('\n');
    return { problem: `pip install ${wanted} failed: ${lastLines}\n${probe.text}`.trim() };
  }
  if (pip.ok) {
    writeFileSync(marker, `${Date.now()}`);
  }
  return { python, distribution, version: probe.text };
}
