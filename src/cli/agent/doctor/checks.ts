/** All checks of `agent doctor`, in the order in which they are shown: what others build on comes first. */
import { AGENT_CHECKS } from './agent-checks.ts';
import { BROKER_CHECKS } from './broker-checks.ts';
import type { Check } from './check.ts';
import { ENVIRONMENT_CHECKS } from './environment-checks.ts';
import { HUB_CHECKS } from './hub-checks.ts';
import { IDENTITY_CHECKS } from './identity-checks.ts';
import { INTERPRETER_CHECKS } from './interpreter-checks.ts';
import { LIMIT_CHECKS } from './limit-checks.ts';
import { MACHINE_CHECKS } from './machine-checks.ts';
import { SETTINGS_CHECKS } from './settings-checks.ts';
import { STATE_DIRECTORY_CHECKS } from './state-directory.ts';
import { TRIAL_CHECKS } from './trial-tasks.ts';

/** The checks. Each stands below those that it builds on. */
export const CHECKS: readonly Check[] = [
  ...SETTINGS_CHECKS,
  ...MACHINE_CHECKS,
  ...LIMIT_CHECKS,
  ...STATE_DIRECTORY_CHECKS,
  ...AGENT_CHECKS,
  ...HUB_CHECKS,
  ...IDENTITY_CHECKS,
  ...BROKER_CHECKS,
  ...INTERPRETER_CHECKS,
  ...ENVIRONMENT_CHECKS,
  ...TRIAL_CHECKS,
];
