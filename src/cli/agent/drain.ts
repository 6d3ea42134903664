/** `agent drain`. */
import type { ModeReply } from '../../agent/control-methods.ts';
import { systemClock } from '../../base/clock.ts';
import { ConflictError, UnavailableError, UsageError } from '../../base/errors.ts';
import { defineCommand } from '../command-line.ts';
import { durationText, printJson, printLine, printNote } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import type { EndpointContext } from './endpoint-argument.ts';
import { askMode, requestMode, runningText, withReason } from './mode-request.ts';

/** One question to the agent waits for so long; between two, progress is shown. */
const WAIT_MS = 2_000;

/** Has an endpoint hand back what has not begun, and waits until nothing runs. */
export const drain = defineCommand(
  (parser) =>
    withReason(withEndpointName(parser)).option('timeout', {
      type: 'number',
      requiresArg: true,
      describe:
        'Seconds to wait until nothing runs; draining goes on after that. Not set: for as long as it takes. 0: not at all',
    }),
  async (argv) => {
    if (argv.timeout !== undefined && !(argv.timeout >= 0)) {
      throw new UsageError('--timeout must be a number of seconds, 0 or more.');
    }
    const context = await openEndpoint(argv.name);
    const { name } = context.directory;
    const startedMs = systemClock.monotonicMs();
    const first = await requestMode(context, 'drain', argv.reason);
    const timeoutMs = (argv.timeout ?? Infinity) * 1000;
    const reply = timeoutMs === 0 ? first : await waitUntilDrained(context, first, timeoutMs);
    if (argv.json) {
      printJson({ ...reply, changed: first.changed });
      return 0;
    }
    const tookMs = systemClock.monotonicMs() - startedMs;
    const state = reply.mode.state === 'drained' ? 'drained' : 'draining';
    printLine(
      state === 'drained'
        ? `Endpoint ${name} is drained (${durationText(tookMs)}): nothing runs, and new tasks wait at the hub.`
        : `Endpoint ${name} is draining: ${runningText(reply.tasks.running)}.`,
    );
    if (reply.hand_back_failure !== null) {
      printNote(
        `${reply.tasks.waiting} tasks that have not begun could not be handed back (${reply.hand_back_failure}). ` +
          `They stay in its journal; the agent keeps trying.`,
      );
    }
    printLine(`To take tasks again: agent resume ${name}. To stop it: agent stop ${name}`);
    return 0;
  },
);

async function waitUntilDrained(
  context: EndpointContext,
  first: ModeReply,
  timeoutMs: number,
): Promise<ModeReply> {
  const { name } = context.directory;
  const startedMs = systemClock.monotonicMs();
  let reply = first;
  let noted = '';
  while (reply.mode.state === 'draining') {
    const leftMs = startedMs + timeoutMs - systemClock.monotonicMs();
    if (leftMs <= 0) {
      throw new UnavailableError(
        'TIMED_OUT',
        `Endpoint ${name} still drains after ${timeoutMs / 1000} s (${runningText(reply.tasks.running)}), and goes on draining. ` +
          `See: agent tasks ${name}. To take tasks again: agent resume ${name}. To end what runs: agent stop ${name}`,
        { details: { mode: reply.mode.state, running: reply.tasks.running } },
      );
    }
    reply = await askMode(context, reply, Math.min(WAIT_MS, leftMs));
    const { state } = reply.mode;
    const text = `Draining: ${runningText(reply.tasks.running)} …`;
    if (state === 'draining' && text !== noted) {
      noted = text;
      printNote(text);
    }
    if (state !== 'draining' && state !== 'drained') {
      throw new ConflictError(
        'PRECONDITION_FAILED',
        `Endpoint ${name} drains no longer: ${reply.mode.by ?? 'somebody'} has asked for ${state} meanwhile.`,
      );
    }
  }
  return reply;
}
