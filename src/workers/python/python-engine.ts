/** The engine for Python functions: interpreters that are started by the host and speak frames on descriptors 3 and 4. */
import type { Clock } from '../../base/clock.ts';
import { NO_ENVIRONMENTS } from '../../protocol/environments.ts';
import type { HostConfig } from '../../protocol/host-frames.ts';
import type { Engine, EngineListener, PlaceListener } from '../engine.ts';
import { EnvironmentPlace } from '../environments/environment-place.ts';
import { interpretersInEnvironments, withEnvironments } from '../environments/interpreters.ts';
import { PlaceEngine } from '../place-engine.ts';
import { sandboxDirectories, sweepSandboxes, withSandboxes } from '../sandboxes.ts';
import { Interpreter } from './interpreter.ts';
import type { InterpreterOptions } from './interpreter.ts';

/** Builds the Python engine of a host. */
export function createPythonEngine(
  config: HostConfig,
  environment: Readonly<Record<string, string>>,
  clock: Clock,
  listener: EngineListener,
): Engine {
  const {
    python,
    endpointId,
    workingDir,
    resultCharsMax,
    outputBytesMax,
    killGraceMs,
    startTimeoutMs,
  } = config;
  const sandboxes =
    config.runInSandbox === true ? sandboxDirectories(workingDir, endpointId) : undefined;
  const options: InterpreterOptions = {
    executable: python.executable,
    memoryMb: python.memoryMb ?? 0,
    endpointId,
    workingDir,
    environment,
    resultCharsMax,
    outputBytesMax,
    killGraceMs,
    startTimeoutMs,
    ...(sandboxes !== undefined && { sandboxMarksDir: sandboxes.marksDir }),
    ...(config.runningTable !== undefined && { runningTable: config.runningTable }),
    clock,
  };
  const createOwn = (placeListener: PlaceListener): Interpreter =>
    new Interpreter(options, placeListener);
  // Without settings, too: a task that names an environment must not run elsewhere.
  const environments = interpretersInEnvironments(
    config.environments ?? { rules: NO_ENVIRONMENTS, warmMax: 0, startTimeoutMs },
    options,
    Object.keys(config.environment),
    (reports) => listener.onEnvironments?.(reports),
  );
  const plain = new PlaceEngine({
    language: 'python',
    size: python.interpreters,
    listener,
    clock,
    createPlace: (placeListener) => new EnvironmentPlace(createOwn, environments, placeListener),
  });
  const engine = withEnvironments(plain, environments);
  if (sandboxes === undefined) {
    return engine;
  }
  sweepSandboxes(sandboxes);
  return withSandboxes(engine, sandboxes);
}
