/** Where a setting came from, for people and for what depends on whether somebody set it. */
import type { OptionValue } from './option-types.ts';

/** A setting in force. */
export interface OptionOrigin {
  readonly key: string;
  readonly value: OptionValue | undefined;
  /** `file:line`, a variable, a flag, or a kind of default. */
  readonly source: string;
  /** Nobody has set it. */
  readonly isDefault: boolean;
}
