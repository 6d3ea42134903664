/** Tells the service manager what becomes of an agent, when one wants to know: ready, status, reload, stop, signs of life. */
import type { Agent, AgentListener } from '../../agent/agent.ts';
import { serviceStatus } from '../../agent/service-status.ts';
import { systemClock } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Environment } from '../../config/config-sources.ts';
import { serviceNotification } from '../../config/service-environment.ts';
import { ServiceReporter } from '../../transport/systemd/service-reporter.ts';

/** The service manager's view of an agent. */
export class ServiceWatch {
  #reporter: ServiceReporter | undefined;
  #agent: Agent | undefined;
  /** What is told in place of the agent's status. */
  #instead: string | undefined;

  /** Begins before the agent is made: what goes wrong until then is told too. */
  static async open(environment: Environment, logger: Logger): Promise<ServiceWatch> {
    const watch = new ServiceWatch();
    watch.#reporter = await ServiceReporter.open({
      notification: serviceNotification(environment),
      describe: () => watch.#describe(),
      isProgressing: () => watch.#agent?.isProgressing ?? true,
      clock: systemClock,
      logger: logger.child({ component: 'service' }),
    });
    return watch;
  }

  /** What is to be told of this agent. */
  watch(agent: Agent): Pick<AgentListener, 'onChange' | 'onReloading' | 'onReloaded'> {
    this.#agent = agent;
    return {
      onChange: () => {
        if (agent.isUp) {
          this.#reporter?.ready();
        }
        if (agent.phase === 'draining') {
          this.#reporter?.stopping(agent.stopLimitMs);
        }
        this.#reporter?.update();
      },
      onReloading: () => this.#reporter?.reloading(),
      onReloaded: () => this.#reporter?.reloaded(),
    };
  }

  /** No agent runs, because another host has the endpoint; the service has started all the same. */
  standingBy(words: string): void {
    this.#instead = words;
    this.#reporter?.ready();
  }

  /** The agent cannot run. */
  failed(error: unknown): void {
    this.#instead = errorText(error);
    this.#reporter?.stopping();
  }

  /** Tells nothing more. */
  close(): void {
    this.#reporter?.close();
  }

  #describe(): string {
    const agent = this.#agent;
    return this.#instead ?? (agent === undefined ? 'starting' : serviceStatus(agent.status()));
  }
}
