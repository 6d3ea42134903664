/** What stands in a row of the table of options (options.ts), and how most of it follows from the key. */
import type { OptionType, OptionValue } from './option-types.ts';

/** One option. */
export interface OptionRow {
  /** Key in config.yaml. */
  readonly key: string;
  /** Environment variable. */
  readonly environment: string;
  /** Flag of `agent configure` and `agent start`; undefined where a command line is no place for it. */
  readonly flag?: string;
  readonly type: OptionType;
  /** Unit of the value, for people. */
  readonly unit?: string;
  /** Undefined means: not set. */
  readonly default?: OptionValue;
  /** The default in words where it is computed. */
  readonly defaultText?: string;
  /** The default on a host with a batch scheduler, which many people share. */
  readonly schedulerDefault?: OptionValue;
  /** Never printed, and never read from config.yaml. */
  readonly secret: boolean;
  /** Whether a change waits for the next start of the agent, or is applied when it reads its settings again. */
  readonly restartNeeded: boolean;
  /** Chapter of the documentation. */
  readonly section: OptionSection;
  /** Whole sentences: meaning, then what happens at the edges. */
  readonly description: string;
}

/** Chapters in the order in which they are printed. */
export const OPTION_SECTIONS = [
  'Endpoint and hub',
  'Workers',
  'Tasks',
  'Agent',
  'Credentials',
] as const;

/** A chapter of the options. */
export type OptionSection = (typeof OPTION_SECTIONS)[number];

type Draft = Omit<OptionRow, 'environment' | 'flag' | 'secret' | 'restartNeeded'>;

/** Every row follows the same pattern: `hub_url`, OUTPOST_HUB_URL, `--hub-url`. */
export function row(draft: Draft): OptionRow {
  return {
    ...draft,
    environment: `OUTPOST_${draft.key.toUpperCase()}`,
    flag: draft.key.replaceAll('_', '-'),
    secret: false,
    restartNeeded: true,
  };
}

/** A row whose changes a running agent applies when it is told to read its settings again. */
export function reloadedRow(draft: Draft): OptionRow {
  return { ...row(draft), restartNeeded: false };
}
