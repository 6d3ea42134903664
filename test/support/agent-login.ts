/** `agent login --no-browser`, with a browser that the test is. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { eventually } from './eventually.ts';
import { browse, submitForm } from './sign-in.ts';
import type { Typed } from './sign-in.ts';
import type { CommandOutcome } from './stack.ts';

const AGENT = fileURLToPath(new URL('../../src/cli/agent.js', import.meta.url));

/** Signs somebody in. */
export async function agentLogin(env: NodeJS.ProcessEnv, typed: Typed): Promise<CommandOutcome> {
  const child = spawn(process.execPath, [AGENT, 'login', '--no-browser', '--json'], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
  const ended = once(child, 'close');
  const url = await eventually(() => {
    const found = /or open (http\S+)/.exec(output.stderr)?.[1];
    assert.ok(found !== undefined, output.stderr);
    return found;
  });
  const answer = await submitForm(url, await browse(url), typed);
  assert.equal(answer.status, 200, answer.text);
  const [code] = (await ended) as [number];
  return { code, ...output };
}
