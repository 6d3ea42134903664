/** Levels of every log here, the agent's and the hub's, from all to least. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;

/** A level of a log. */
export type LogLevel = (typeof LOG_LEVELS)[number];
