/**
 * The Python environments with the unmodified globus-compute-sdk that the interop suite runs against: its newest release, and
 * the oldest that we vouch for. They are kept in .cache/ and made anew when they are broken; once a week the newest SDK is asked for,
 * and the one that is there serves when no index can be reached. A pinned version never grows old.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The oldest version that the interop suite runs with. */
export const OLDEST_SDK = '4.15.0';

const FRESH_MS = 7 * 24 * 3600 * 1000;
const INSTALL_LIMIT_MS = 10 * 60_000;
const PROBE = 'import dill, globus_compute_sdk; print(globus_compute_sdk.__version__)';

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
export async function ensureSdkVenv(root, { upgrade = true, version } = {}) {
  const name = version === undefined ? 'interop-venv' : `interop-venv-${version}`;
  const directory = join(root, '.cache', name);
  const marker = join(directory, 'checked-at');
  const python = join(directory, 'bin', 'python');
  const installed = existsSync(marker) ? await capture(python, ['-c', PROBE]) : { ok: false };
  if (serves(installed, marker, { upgrade, version })) {
    return { python, version: installed.text };
  }
  if (!installed.ok) {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(join(root, '.cache'), { recursive: true });
    const made = await capture('/usr/bin/python3', ['-m', 'venv', directory]);
    if (!made.ok) {
      return { problem: `/usr/bin/python3 -m venv failed: ${made.text}` };
    }
  }
  const wanted = `globus-compute-sdk${version === undefined ? '' : `==${version}`}`;
  const pip = await capture(python, ['-m', 'pip', 'install', '--upgrade', wanted]);
  const probe = await capture(python, ['-c', PROBE]);
  if (!probe.ok || (version !== undefined && probe.text !== version)) {
    const lastLines = pip.text.split('\n').slice(-3).join('\n');
    return { problem: `pip install ${wanted} failed: ${lastLines}\n${probe.text}`.trim() };
  }
  if (pip.ok) {
    writeFileSync(marker, `${Date.now()}`);
  }
  return { python, version: probe.text };
}
