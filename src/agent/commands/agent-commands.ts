/** What the owner of an endpoint can tell its agent through the hub: the methods of the control socket, and to stop. */
import { ConfigError, InvariantError } from '../../base/errors.ts';
import type { EndpointCommandName } from '../../protocol/endpoint-commands.ts';
import type { ControlMethod } from '../control-socket.ts';
import type { ReloadReport } from '../live-settings.ts';

/** What is done at each command; what it returns goes to the hub. */
export type AgentCommands = Readonly<Record<EndpointCommandName, ControlMethod>>;

/** Commands, carried out by the functions behind the control socket. */
export function agentCommands(
  methods: Readonly<Record<string, ControlMethod>>,
  onStop: (how: 'stop' | 'cancel') => void,
): AgentCommands {
  const method = (name: string): ControlMethod => {
    const found = methods[name];
    if (found === undefined) {
      throw new InvariantError(`the control socket has no ${name}`);
    }
    return found;
  };
  return {
    pause: method('pause'),
    drain: method('drain'),
    resume: method('resume'),
    reload: async (params) => {
      const report = (await method('reload')(params)) as ReloadReport;
      if (!report.ok) {
        throw new ConfigError(report.error ?? 'the settings are wrong; its log says more');
      }
      // Settings are nothing for the hub.
      return null;
    },
    stop: () => {
      onStop('stop');
      return null;
    },
    cancel: () => {
      onStop('cancel');
      return null;
    },
  };
}
