/**
 * The end of a process group: asked, killed after the grace period, and watched until nothing of it is left. What hangs in the kernel
 * (on a network file system that does not answer) is given up, so that nobody waits for it for ever.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { groupMembers, signalGroup } from '../process-group.ts';

/** How a group is ended. */
export interface GroupEndingOptions {
  /** Its leader. */
  readonly pid: number;
  readonly killGraceMs: number;
  /** Kills it, and what a launcher has started for it elsewhere. */
  readonly kill: () => void;
  /** Whether the leader has exited, and whether all that it had to say has arrived. */
  readonly leader: () => { readonly hasExited: boolean; readonly isHeardOut: boolean };
  /** Called once: nothing of it is left, or it is given up. */
  readonly onGone: () => void;
  readonly clock: Clock;
}

/** How long a killed process may take to vanish before it is given up. */
const VANISH_MS = 5_000;
/** How often it is looked whether the group is gone; only while it is ending. */
const POLL_MS = 5;
/** Every so many looks /proc is asked, since zombies that nobody reaps can be signalled for ever. */
const POLLS_PER_SCAN = 10;
/** Looks that the answers of an exited leader may take to arrive: a fork that left the group can hold the descriptor. */
const ANSWER_POLLS_MAX = 40;

/** One group that is being ended. */
export class GroupEnding {
  readonly #options: GroupEndingOptions;
  #killTimer: Timer | undefined;
  #isDone = false;

  constructor(options: GroupEndingOptions) {
    this.#options = options;
  }

  /** Sends the first signal and begins to watch. */
  start(signal: 'SIGTERM' | 'SIGKILL'): void {
    const { pid, killGraceMs, kill, clock } = this.#options;
    signalGroup(pid, signal);
    this.#killTimer = clock.after(signal === 'SIGKILL' ? 0 : killGraceMs, () => {
      kill();
      this.#killTimer = clock.after(VANISH_MS, () => {
        this.#finish();
      });
    });
    this.#watch(0);
  }

  #watch(polls: number): void {
    if (this.#isDone) {
      return;
    }
    const { hasExited, isHeardOut } = this.#options.leader();
    if (hasExited && (isHeardOut || polls >= ANSWER_POLLS_MAX) && this.#isGone(polls)) {
      this.#finish();
      return;
    }
    this.#options.clock.after(POLL_MS, () => {
      this.#watch(polls + 1);
    });
  }

  #isGone(polls: number): boolean {
    const { pid } = this.#options;
    return !signalGroup(pid, 0) || (polls % POLLS_PER_SCAN === 0 && groupMembers(pid).length === 0);
  }

  #finish(): void {
    if (!this.#isDone) {
      this.#isDone = true;
      this.#killTimer?.cancel();
      this.#options.onGone();
    }
  }
}
