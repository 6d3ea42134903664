/** The Python interpreters that the settings name, asked in the environment that functions would have. */
import { execFile } from 'node:child_process';
import { performance } from 'node:perf_hooks';

import { workerBaseEnvironment } from '../../../config/process-context.ts';
import { isScript } from '../../../config/python-interpreter.ts';
import { EXIT, failed, ok, skipped, warning } from './check.ts';
import type { Check, Finding } from './check.ts';
import type { Subject } from './subject.ts';

/** The shim needs it (python/outpost_worker.py). */
const VERSION_MIN = [3, 9] as const;
const OUTPUT_BYTES_MAX = 64 * 1024;

/** Says what the interpreter is; dill is really imported, because one that is broken is as bad as none. */
const QUESTION = `
import json, sys
answer = {"version": "%d.%d.%d" % sys.version_info[:3], "executable": sys.executable, "prefix": sys.prefix, "dill": None, "sdk": None, "why": None}
try:
    import dill
    answer["dill"] = dill.__version__
except BaseException as error:
    answer["why"] = "%s: %s" % (type(error).__name__, error)
try:
    from importlib import metadata
    answer["sdk"] = metadata.version("globus-compute-sdk")
except BaseException:
    pass
print("\\n" + json.dumps(answer))
`;

/** What an interpreter says about itself. */
interface Answer {
  readonly version: string;
  readonly executable: string;
  readonly prefix: string;
  readonly dill: string | null;
  readonly sdk: string | null;
  readonly why: string | null;
}

/** The checks. */
export const INTERPRETER_CHECKS: readonly Check[] = [
  {
    name: 'python',
    settings: ['python', 'python_interpreters', 'environment'],
    remedy: 'Set python to the absolute path of a Python 3.9 or newer',
    run: pythonFinding,
  },
];

async function pythonFinding(subject: Subject, signal: AbortSignal): Promise<Finding> {
  const { pythonInterpreters, python } = subject.settings.config;
  return pythonInterpreters === 0
    ? skipped('the settings ask for no Python workers')
    : await interpreterFinding(subject, python, signal);
}

async function interpreterFinding(
  subject: Subject,
  python: string,
  signal: AbortSignal,
): Promise<Finding> {
  const { directory } = subject.context;
  const begunMs = performance.now();
  const { context, settings } = subject;
  const env = { ...workerBaseEnvironment(context.environment), ...settings.config.environment };
  const { answer, problem } = await askInterpreter(subject, [python], { env, signal });
  const ms = Math.round(performance.now() - begunMs);
  const setIt = `Set python in ${directory.configPath} to the absolute path of a Python ${VERSION_MIN.join('.')} or newer`;
  if (answer === undefined) {
    return failed(
      EXIT.settings,
      `${python} cannot be used: ${problem}`,
      `${setIt}, then: agent restart ${directory.name}`,
      { python },
    );
  }
  const { version, executable, dill, sdk, why } = answer;
  const details = { python, ...answer, start_ms: ms };
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (isTooOld(version)) {
    return failed(
      EXIT.settings,
      `${python} is Python ${version}, which is too old`,
      setIt,
      details,
    );
  }
  const found = `${python} is Python ${version}, dill ${dill ?? 'missing'}${sdk === null ? '' : `, globus-compute-sdk ${sdk}`}, starts in ${ms} ms`;
  if (python.startsWith('/') && isScript(python)) {
    return warning(
      `${found}; it is a script (the shim of a version manager?) that runs ${executable}, costs time at every start and may choose another Python elsewhere`,
      `Set python in ${directory.configPath} to ${executable}`,
      details,
    );
  }
  return dill === null
    ? warning(
        `${found}: functions and arguments that the Globus Compute SDK sends pickled fail here (${why ?? 'no dill'}); functions as source with JSON arguments work`,
        `${executable} -m pip install dill`,
        details,
      )
    : ok(`${found}; pickled functions need Python ${major}.${minor} at the sender too`, details);
}

/** Whether no worker runs with this version of Python. */
export function isTooOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major !== VERSION_MIN[0] || minor < VERSION_MIN[1];
}

/** Asks a Python what it is; the words are those that start it, perhaps through a launcher. */
export async function askInterpreter(
  { limitMs }: Subject,
  [file, ...words]: readonly [string, ...string[]],
  { env, signal }: { readonly env: Readonly<Record<string, string>>; readonly signal: AbortSignal },
): Promise<
  | { readonly answer: Answer; readonly problem?: undefined }
  | { readonly answer?: undefined; readonly problem: string }
> {
  const options = {
    env,
    signal,
    timeout: limitMs * 0.8,
    killSignal: 'SIGKILL' as const,
    maxBuffer: OUTPUT_BYTES_MAX,
  };
  return await new Promise((resolve) => {
    const child = execFile(file, [...words, '-c', QUESTION], options, (error, stdout, stderr) => {
      const line = stdout.trimEnd().split('\n').at(-1) ?? '';
      if (error === null && line.startsWith('{')) {
        resolve({ answer: JSON.parse(line) as Answer });
        return;
      }
      const said = stderr.trim().split('\n').at(-1) ?? '';
      const how =
        error === null
          ? 'it does not answer as a Python does'
          : (error.message.split('\n')[0] ?? '');
      const isMissing = error !== null && error.code === ('ENOENT' as unknown);
      resolve({
        problem: isMissing
          ? 'there is no such program'
          : error?.killed === true
            ? 'it does not end'
            : said === ''
              ? how
              : said,
      });
    });
    child.stdin?.end();
  });
}
