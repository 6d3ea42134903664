/**
 * The environment that user code sees: what a login gives everybody, plus what the operator configured. Nothing else of the
 * host's environment gets through, so that a secret there cannot.
 */

const INHERITED =
  /^(?:PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_[A-Z]+|TMPDIR|SHELL|TZ|OUTPOST_AGENT_COOKIE)$/;

/** Builds the environment of workers. The cookie lets an agent find what its workers left behind. */
export function workerEnvironment(
  host: Readonly<Record<string, string | undefined>>,
  configured: Readonly<Record<string, string>>,
): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const [name, value] of Object.entries(host)) {
    if (value !== undefined && INHERITED.test(name)) {
      environment[name] = value;
    }
  }
  const cookie = environment['OUTPOST_AGENT_COOKIE'];
  return {
    ...environment,
    ...configured,
    ...(cookie !== undefined && { OUTPOST_AGENT_COOKIE: cookie }),
  };
}
