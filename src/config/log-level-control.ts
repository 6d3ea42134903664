/** The level of a log: what the settings say, unless somebody has asked for another one, for a while or until the next start. */
import { systemClock } from '../base/clock.ts';
import type { Clock, Timer } from '../base/clock.ts';
import type { LogLevels } from '../base/logger.ts';

/** A level that can be changed. */
export interface LevelControl {
  readonly levels: LogLevels;
  readonly setLevel: (level: string | undefined, forMs?: number) => LogLevels;
  readonly configure: (level: string) => void;
  /** Leaves the level as it is, without a timer. */
  readonly end: () => void;
}

/** Begins with what the settings say; `apply` puts a level into force. */
export function levelControl(
  initial: string,
  apply: (level: string) => void,
  clock: Clock = systemClock,
): LevelControl {
  let configured = initial;
  let asked: { readonly level: string; readonly until: string | null } | undefined;
  let timer: Timer | undefined;

  const levels = (): LogLevels => ({
    level: asked?.level ?? configured,
    configured,
    until: asked?.until ?? null,
  });
  const setLevel: LevelControl['setLevel'] = (level, forMs) => {
    timer?.cancel();
    timer = undefined;
    asked = undefined;
    if (level !== undefined) {
      const until = forMs === undefined ? null : new Date(clock.now() + forMs).toISOString();
      asked = { level, until };
      if (forMs !== undefined) {
        timer = clock.after(forMs, () => setLevel(undefined), { background: true });
      }
    }
    apply(level ?? configured);
    return levels();
  };
  return {
    get levels() {
      return levels();
    },
    setLevel,
    configure: (level) => {
      configured = level;
      setLevel(undefined);
    },
    end: () => {
      timer?.cancel();
    },
  };
}
