/** The engine for JavaScript functions: threads of this process. */
import type { Clock } from '../../base/clock.ts';
import type { HostConfig } from '../../protocol/host-frames.ts';
import type { Engine, EngineListener } from '../engine.ts';
import { PlaceEngine } from '../place-engine.ts';
import { sandboxDirectories, sweepSandboxes, withSandboxes } from '../sandboxes.ts';
import { ThreadPlace } from './thread-place.ts';

/** Builds the JavaScript engine of a host. */
export function createJavascriptEngine(
  config: HostConfig,
  environment: Readonly<Record<string, string>>,
  clock: Clock,
  listener: EngineListener,
): Engine {
  const { javascript, workingDir, resultCharsMax, outputBytesMax, killGraceMs } = config;
  const sandboxes =
    config.runInSandbox === true ? sandboxDirectories(workingDir, config.endpointId) : undefined;
  const engine = new PlaceEngine({
    language: 'javascript',
    size: javascript.threads,
    listener,
    clock,
    createPlace: (placeListener) =>
      new ThreadPlace(
        {
          heapMb: javascript.heapMb,
          environment: { ...environment, GC_TASK_WORKING_DIR: workingDir },
          settings: {
            workingDir,
            resultCharsMax,
            outputBytesMax,
            ...(sandboxes !== undefined && { sandboxes }),
            ...(config.runningTable !== undefined && { runningTable: config.runningTable }),
          },
          killGraceMs,
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
