/**
 * Notices that an agent has nothing to do, in heartbeats (protocol.md 10.3).
 *
 *   since the last heartbeat                   counted
 *   a task came, or a result went              both counts begin anew
 *   nothing, all work that ever came is done   soft and hard
 *   nothing, and there was no work yet         hard
 *   nothing, and a task is held                hard
 *
 * The agent stops when soft reaches `idle_heartbeats_soft`, or hard goes beyond `idle_heartbeats_hard`. Heartbeats are sent only while
 * the broker is there, so an outage is no idleness; neither is a pause that somebody has asked for.
 */

/** When to stop; 0 for never. */
export interface IdleLimits {
  readonly soft: number;
  readonly hard: number;
}

/** How much the agent has done and holds. */
export interface WorkCounts {
  /** Tasks that were received in the life of the process. */
  readonly receivedCount: number;
  /** Results that the broker has. */
  readonly deliveredCount: number;
  /** Tasks and results that are not settled. */
  readonly heldCount: number;
  /** Whether tasks are taken. */
  readonly isTaking: boolean;
}

/** Counts heartbeats without work. */
export class IdleWatch {
  #limits: IdleLimits;
  #softCount = 0;
  #hardCount = 0;
  #last: WorkCounts | undefined;

  constructor(limits: IdleLimits) {
    this.#limits = limits;
  }

  /** Other limits, and the counts begin anew: nobody who sets a limit means the time before. */
  setLimits(limits: IdleLimits): void {
    if (limits.soft !== this.#limits.soft || limits.hard !== this.#limits.hard) {
      this.#limits = limits;
      this.#softCount = 0;
      this.#hardCount = 0;
    }
  }

  /** Takes note of a heartbeat; returns why the agent stops, when it does. */
  onHeartbeat(work: WorkCounts): string | undefined {
    const last = this.#last;
    this.#last = work;
    const isActive =
      last?.receivedCount !== work.receivedCount || last.deliveredCount !== work.deliveredCount;
    if (isActive || !work.isTaking) {
      this.#softCount = 0;
      this.#hardCount = 0;
      return undefined;
    }
    this.#hardCount += 1;
    if (work.receivedCount > 0 && work.heldCount === 0) {
      this.#softCount += 1;
    }
    const { soft, hard } = this.#limits;
    if (soft === 0) {
      return undefined;
    }
    if (this.#softCount >= soft) {
      return `no task for ${this.#softCount} heartbeats (idle_heartbeats_soft)`;
    }
    if (hard > 0 && this.#hardCount > Math.max(soft + 1, hard)) {
      const why = work.heldCount === 0 ? 'no task yet' : 'no progress of the tasks that it holds';
      return `${why} in ${this.#hardCount} heartbeats (idle_heartbeats_hard)`;
    }
    return undefined;
  }
}
