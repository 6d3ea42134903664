/** `agent logs --set-level`: has a running agent log more or less, for a while or until its next start. */
import { printJson, printLine } from '../output.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { askAgent, requireRunning } from './presence.ts';
import { fieldsOf } from './status-document.ts';

const LIMIT_MS = 5_000;

/** Changes the level; undefined goes back to what the settings say. */
export async function changeLogLevel(
  context: EndpointContext,
  level: string | undefined,
  forMs: number | undefined,
  json: boolean,
): Promise<number> {
  await requireRunning(context.directory);
  const reply = await askAgent(context, 'set_log_level', LIMIT_MS, {
    level: level ?? null,
    ...(forMs !== undefined && { for_ms: forMs }),
  });
  const { level: now, configured, until } = fieldsOf(reply);
  if (json) {
    printJson({ name: context.directory.name, level: now, configured, until });
    return 0;
  }
  const end =
    now === configured
      ? 'as its settings say'
      : typeof until === 'string'
        ? `until ${until}, then ${String(configured)} again`
        : `until its next start, then ${String(configured)} again`;
  printLine(`${context.directory.name} logs from level ${String(now)} on, ${end}.`);
  return 0;
}
