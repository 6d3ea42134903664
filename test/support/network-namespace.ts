/**
 * A second host, as far as the network goes: a namespace that a pair of interfaces joins to this process's own.
 *
 *   here    198.18.N.1 ── veth ── 198.18.N.2    the other host
 *
 * It lives as long as a process of ours in it, and that one dies with us. Making it takes root (in whatever namespace the tests run).
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';

import { eventually } from './eventually.ts';

function ip(...args: readonly string[]): void {
  const run = spawnSync('ip', args, { encoding: 'utf8' });
  assert.equal(run.status, 0, `ip ${args.join(' ')}: ${run.error?.message ?? run.stderr}`);
}

function namespaceOf(pid: number | 'self'): string {
  return readlinkSync(`/proc/${pid}/ns/net`);
}

/** The other host. */
export class NetworkNamespace {
  /** This host, as the other one sees it. */
  readonly address: string;
  readonly #keeper: ChildProcess;
  readonly #interface: string;

  private constructor(keeper: ChildProcess, id: number) {
    this.#keeper = keeper;
    this.#interface = `outpost${id}`;
    this.address = `198.18.${id}.1`;
  }

  /** Makes it. @throws when this process may not, with what the system said. */
  static async open(): Promise<NetworkNamespace> {
    const keeper = spawn('setpriv', ['--pdeathsig=KILL', '--', 'unshare', '--net', 'cat'], {
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    let said = '';
    keeper.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    const id = (keeper.pid ?? 0) % 250;
    const host = new NetworkNamespace(keeper, id);
    try {
      await eventually(() => {
        assert.equal(keeper.exitCode, null, said);
        assert.notEqual(namespaceOf(keeper.pid ?? 0), namespaceOf('self'));
      });
      ip('link', 'add', host.#interface, 'type', 'veth', 'peer', 'name', 'up0', 'netns', host.#pid);
      ip('address', 'add', `${host.address}/24`, 'dev', host.#interface);
      ip('link', 'set', host.#interface, 'up');
      const inside = ['-n', '--target', host.#pid, 'ip'];
      for (const line of [
        `address add 198.18.${id}.2/24 dev up0`,
        'link set up0 up',
        'link set lo up',
      ]) {
        const run = spawnSync('nsenter', [...inside, ...line.split(' ')], { encoding: 'utf8' });
        assert.equal(run.status, 0, run.stderr);
      }
    } catch (error) {
      await host.close();
      throw error;
    }
    return host;
  }

  /** A program and its arguments, as they are to be run there. */
  command(program: string, ...args: readonly string[]): [string, string[]] {
    return ['nsenter', ['-n', '--target', this.#pid, '--', program, ...args]];
  }

  /** Takes the link away, or brings it back. */
  link(state: 'down' | 'up'): void {
    ip('link', 'set', this.#interface, state);
  }

  /** Ends it; the interfaces go with it. */
  async close(): Promise<void> {
    if (this.#keeper.exitCode === null && this.#keeper.signalCode === null) {
      const ended = once(this.#keeper, 'exit');
      this.#keeper.kill('SIGKILL');
      await ended;
    }
  }

  get #pid(): string {
    return String(this.#keeper.pid);
  }
}
