/**
 * The Python environment with the unmodified globus-compute-sdk that the interop suite runs against. It is kept in .cache/ and
 * made anew when it is broken; once a week the newest SDK is asked for, and the old one serves when no index can be reached.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

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

/** Returns the interpreter and the SDK's version, or the problem. Without `upgrade` any SDK that is there will do. */
export async function ensureSdkVenv(root, { upgrade = true } = {}) {
  const directory = join(root, '.cache', 'interop-venv');
  const marker = join(directory, 'checked-at');
  const python = join(directory, 'bin', 'python');
  const installed = existsSync(marker) ? await capture(python, ['-c', PROBE]) : { ok: false };
  if (installed.ok && (!upgrade || Date.now() - Number(readFileSync(marker, 'utf8')) < FRESH_MS)) {
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
  const pip = await capture(python, ['-m', 'pip', 'install', '--upgrade', 'globus-compute-sdk']);
  const probe = await capture(python, ['-c', PROBE]);
  if (!probe.ok) {
    const lastLines = pip.text.split('\n').slice(-3).join('\n');
    return { problem: `pip install globus-compute-sdk failed: ${lastLines}\n${probe.text}`.trim() };
  }
  if (pip.ok) {
    writeFileSync(marker, `${Date.now()}`);
  }
  return { python, version: probe.text };
}
