/** The engine for Python functions: interpreters that are started by the host and speak frames on descriptors 3 and 4. */
import type { Clock } from '../../base/clock.ts';
import type { HostConfig } from '../../protocol/host-frames.ts';
import type { Engine, EngineListener } from '../engine.ts';
import { PlaceEngine } from '../place-engine.ts';
import { sandboxDirectories, sweepSandboxes, withSandboxes } from '../sandboxes.ts';
import { Interpreter } from './interpreter.ts';

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
  const engine = new PlaceEngine({
    language: 'python',
    size: python.interpreters,
    listener,
    clock,
    createPlace: (placeListener) =>
      new Interpreter(
        {
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
        },
        placeListener,
      ),
  });
  if (sandboxes === undefined) {
    return engine;
  }
  sweepSandboxes(sandboxes);
  return withSandboxes(engine, sandboxes);
}
