/**
 * What has changed between the settings that an agent runs with and those that its files have now: which of the changes a
 * running agent applies, and which wait for its next start. The option table says which is which.
 */
import { isDeepStrictEqual } from 'node:util';

import type { ResolvedAgentConfig } from './agent-config.ts';
import type { OptionOrigin } from './option-origin.ts';
import type { OptionValue } from './option-types.ts';
import { FILE_OPTIONS } from './options.ts';

/** A setting that has changed. */
export interface ConfigChange {
  readonly key: string;
  readonly from: OptionValue | undefined;
  readonly to: OptionValue | undefined;
  /** Where the new value comes from. */
  readonly source: string;
}

/** Changes, in the order of the option table. */
export interface ConfigDiff {
  /** A running agent takes these over. */
  readonly applied: readonly ConfigChange[];
  /** These wait for its next start. */
  readonly restartNeeded: readonly ConfigChange[];
}

/** Compares two readings of the settings of one endpoint. */
export function diffAgentConfigs(old: ResolvedAgentConfig, next: ResolvedAgentConfig): ConfigDiff {
  const applied: ConfigChange[] = [];
  const restartNeeded: ConfigChange[] = [];
  for (const { key, restartNeeded: waits } of FILE_OPTIONS) {
    const before = originOf(old, key);
    const after = originOf(next, key);
    // The authorities are what stands in the file, which is replaced under the same name when they are renewed.
    const hasNewContent = key === 'ca_file' && old.config.ca !== next.config.ca;
    if (hasNewContent || !isDeepStrictEqual(before?.value, after?.value)) {
      (waits ? restartNeeded : applied).push({
        key,
        from: before?.value,
        to: after?.value,
        source: after?.source ?? 'default',
      });
    }
  }
  return { applied, restartNeeded };
}

function originOf({ origins }: ResolvedAgentConfig, key: string): OptionOrigin | undefined {
  return origins.find((origin) => origin.key === key);
}
