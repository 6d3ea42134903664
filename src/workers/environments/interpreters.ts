/** Interpreters in execution environments, for the Python engine: made by the rules of the site, and ended with the engine. */
import { environmentTitle, launcherOf, notAllowedText } from '../../protocol/environments.ts';
import type { EnvironmentReport, EnvironmentSettings } from '../../protocol/host-frames.ts';
import type { Engine } from '../engine.ts';
import { Interpreter } from '../python/interpreter.ts';
import type { InterpreterOptions } from '../python/interpreter.ts';
import { workerDirectory } from '../python/spawn-interpreter.ts';
import { planLaunch } from './launch.ts';
import { WarmEnvironments } from './warm-environments.ts';

/** Variables that every worker has and a container is to have, too. */
const PASSED_ON = ['LANG', 'TZ', 'OUTPOST_AGENT_COOKIE'];

/** Builds them; `variables` are the names of those that the operator configured for workers, `onChange` is told what there is. */
export function interpretersInEnvironments(
  { rules, warmMax, startTimeoutMs }: EnvironmentSettings,
  own: InterpreterOptions,
  variables: readonly string[],
  onChange: (reports: readonly EnvironmentReport[]) => void,
): WarmEnvironments {
  const { clock, environment: present, workingDir } = own;
  let containerCount = 0;
  return new WarmEnvironments({
    warmMax,
    clock,
    onChange,
    obstacle: (environment) =>
      launcherOf(rules, environment) === undefined ? notAllowedText(environment) : undefined,
    createPlace: (environment, listener) => {
      containerCount += 1;
      const { getuid, getgid } = process;
      const launch = planLaunch(environment, launcherOf(rules, environment) ?? {}, {
        workingDir,
        workerDir: workerDirectory(),
        options: rules.options,
        environment: present,
        passedOn: [...PASSED_ON, ...variables].filter((name) => Object.hasOwn(present, name)),
        containerName: `outpost-${process.pid}-${containerCount}`,
        ...(getuid !== undefined &&
          getgid !== undefined && { user: { uid: getuid(), gid: getgid() } }),
      });
      const inside = { title: environmentTitle(environment), launch };
      return new Interpreter({ ...own, startTimeoutMs, inside }, listener);
    },
  });
}

/** Has an engine end interpreters in environments with its own. */
export function withEnvironments(engine: Engine, environments: WarmEnvironments): Engine {
  const stop = engine.stop.bind(engine);
  const kill = engine.kill.bind(engine);
  engine.stop = async () => {
    // First the places, which tell their tasks why they end.
    await Promise.all([stop(), environments.stop()]);
  };
  engine.kill = () => {
    kill();
    environments.kill();
  };
  return engine;
}
