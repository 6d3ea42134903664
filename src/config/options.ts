/**
 * The one table of the agent's options. From it come parsing, `config.yaml` with its comments, flags and their help,
 * docs/configuration.md and the `.env` example; a test compares each with the table.
 *
 * Adding an option: a row here, a line in agent-config.ts, then `agent config reference > docs/configuration.md`.
 */
import { availableParallelism } from 'node:os';

import { OUTPUT_BYTES_MAX, RESULT_CHARS_MAX } from '../protocol/limits.ts';
import { LOG_LEVELS } from './log-levels.ts';
import { reloadedRow, row } from './option-row.ts';
import type { OptionRow } from './option-row.ts';

/** Threads or interpreters of one language unless told otherwise: an agent often shares a login node with people. */
const SLOTS_DEFAULT = Math.min(2, availableParallelism());
const SLOTS_DEFAULT_TEXT =
  '2, or 1 on a machine with one core, or 0 where a batch scheduler is installed';

/** `setTimeout` takes at most 2^31 ms, which is a little more. */
const TIMEOUT_S_MAX = 2_000_000;

/** Captured output of both streams must fit into a frame's header of 1 MiB when every byte is escaped to six. */
const OUTPUT_BYTES_LIMIT = 64 * 1024;

/** A journal must hold some tasks of the largest size. */
const JOURNAL_BYTES_MIN = 64 * 1024 * 1024;

const TIB = 1024 ** 4;

/** Rotation needs some files of a useful size. */
const LOG_BYTES_MIN = 1024 * 1024;

/** Options of the agent, in the order in which they are documented. */
export const AGENT_OPTIONS: readonly OptionRow[] = [
  reloadedRow({
    key: 'display_name',
    type: { type: 'text', lengthMax: 256 },
    section: 'Endpoint and hub',
    description:
      'Name that people see instead of the endpoint’s own. Not set: the name of the endpoint.',
  }),
  row({
    key: 'hub_url',
    type: { type: 'hub-url' },
    default: 'http://localhost:5000',
    section: 'Endpoint and hub',
    description:
      'Address of the hub. Plain http is refused except for this machine (localhost, 127.0.0.0/8, ::1), because the client secret would cross the network readable.',
  }),
  row({
    key: 'ca_file',
    type: { type: 'path' },
    section: 'Endpoint and hub',
    description:
      'PEM file with the certificate authorities that signed the certificates of hub and broker, trusted beside those that Node brings (NODE_EXTRA_CA_CERTS does not count then). A relative path starts at the endpoint’s directory, as a flag at the current one; ~ is your home. A file that is missing, no PEM or out of date is a problem of the settings.',
  }),
  row({
    key: 'amqp_port',
    type: { type: 'integer', min: 1, max: 65_535 },
    section: 'Endpoint and hub',
    description:
      'Port to dial for the broker instead of the one that the hub names, for sites that let only some ports out. Not set: as the hub says.',
  }),
  row({
    key: 'javascript_threads',
    type: { type: 'integer', min: 0, max: 256 },
    default: SLOTS_DEFAULT,
    schedulerDefault: 0,
    defaultText: SLOTS_DEFAULT_TEXT,
    section: 'Workers',
    description:
      'Threads for JavaScript functions; each runs one task at a time. 0: this endpoint runs no JavaScript.',
  }),
  row({
    key: 'javascript_heap_mb',
    type: { type: 'integer', min: 32, max: 1_048_576 },
    unit: 'MiB',
    default: 256,
    section: 'Workers',
    description:
      'Heap of one JavaScript thread. A task that needs more fails as out of memory. Buffers lie outside of the heap and are not counted.',
  }),
  row({
    key: 'python_interpreters',
    type: { type: 'integer', min: 0, max: 256 },
    default: SLOTS_DEFAULT,
    schedulerDefault: 0,
    defaultText: SLOTS_DEFAULT_TEXT,
    section: 'Workers',
    description:
      'Python processes for Python functions and shell commands; each runs one task at a time. 0: this endpoint runs neither.',
  }),
  row({
    key: 'python',
    type: { type: 'path' },
    default: 'python3',
    section: 'Workers',
    description:
      'Python interpreter (3.9 or later), for instance that of a virtual environment. A bare name is looked up on PATH, where a real interpreter wins over the shim of a version manager, which costs 100 ms at every start. Functions that were serialized with dill need dill in this interpreter.',
  }),
  row({
    key: 'environment',
    type: { type: 'variables' },
    default: {},
    section: 'Workers',
    description:
      'Environment variables of the workers beside the few that they inherit (PATH, HOME, LANG and the like). As text: A=1,B=2 or a JSON object. No place for secrets: this file is not treated as one.',
  }),
  row({
    key: 'working_dir',
    type: { type: 'path' },
    default: 'tasks',
    section: 'Workers',
    description:
      'Directory in which tasks run. A relative path starts at the endpoint’s directory; ~ is your home.',
  }),
  row({
    key: 'run_in_sandbox',
    type: { type: 'flag' },
    default: false,
    section: 'Workers',
    description:
      'Whether each task gets a directory of its own, working_dir/<task id>, that is removed when the task has ended, whatever ended it. A Python function starts in it; both languages find it in GC_TASK_SANDBOX_DIR. JavaScript threads cannot change their directory, so GC_TASK_WORKING_DIR tells them the one to use, with and without a sandbox.',
  }),
  row({
    key: 'worker_nice',
    type: { type: 'integer', min: 0, max: 19 },
    default: 0,
    schedulerDefault: 10,
    defaultText: '0, or 10 where a batch scheduler is installed',
    section: 'Workers',
    description:
      'Niceness of the workers: how far they stand back when others want the processors. 0 is like any other process, 19 runs only on what nobody else wants. The agent itself, which uses next to nothing, keeps its own.',
  }),
  row({
    key: 'worker_memory_mb',
    type: { type: 'integer', min: 0, max: 16_777_216 },
    unit: 'MiB',
    default: 0,
    section: 'Workers',
    description:
      'Address space of one Python interpreter (RLIMIT_AS), and of each process that it starts. A function that needs more fails with a MemoryError. Libraries that map large files or reserve memory for a GPU need far more address space than memory. JavaScript threads have javascript_heap_mb. 0: no limit; otherwise at least 128, which Python itself needs.',
  }),
  row({
    key: 'worker_host',
    type: { type: 'choice', choices: ['child', 'unit'] },
    default: 'child',
    section: 'Workers',
    description:
      'Who starts the process that runs the workers: the agent as its child, or a systemd unit, which may run it as another user.',
  }),
  row({
    key: 'worker_start_timeout_s',
    type: { type: 'seconds', min: 1, max: 600 },
    unit: 's',
    default: 20,
    section: 'Workers',
    description:
      'Time that a worker may take to become ready. Slow network file systems need more. Workers that repeatedly take longer are no longer started, and the endpoint says DEGRADED.',
  }),
  row({
    key: 'environments',
    type: { type: 'environments' },
    section: 'Workers',
    description:
      'Execution environments that Python functions may name (venv, conda, module, apptainer, singularity, docker, podman): allow lists types, or type:location with * for any text; map gives an id or type:location an interpreter or a launcher of its own; options adds words to the launcher of a type. A task whose function names any other fails at once. Not set: none.',
  }),
  row({
    key: 'environments_warm_max',
    type: { type: 'integer', min: 0, max: 64 },
    unit: 'interpreters',
    default: 2,
    section: 'Workers',
    description:
      'Idle interpreters in execution environments that are kept for the next task, beside python_interpreters; those that were used last stay. No more tasks run at a time than python_interpreters says.',
  }),
  row({
    key: 'environment_start_timeout_s',
    type: { type: 'seconds', min: 1, max: 3600 },
    unit: 's',
    default: 120,
    section: 'Workers',
    description:
      'Time that an interpreter in an execution environment may take to become ready, as worker_start_timeout_s for the others. The first start of an image may have to fetch it.',
  }),
  reloadedRow({
    key: 'allowed_functions',
    type: { type: 'uuid-list' },
    section: 'Tasks',
    description:
      'Ids of the only functions that this endpoint runs; a task of any other fails as not allowed. Not set: all functions.',
  }),
  reloadedRow({
    key: 'allowed_serializers',
    type: { type: 'serializer-list' },
    section: 'Tasks',
    description:
      'The only serializers that functions and arguments may come in, by class name or import path of the Globus Compute SDK (JSONData), its wildcards (globus_compute_sdk.*Code, globus_compute_sdk.*Data), JavaScriptSource or V8Data. At least one for code and one for data. The hub refuses a submission in any other, and so does the agent. Not set: all.',
  }),
  row({
    key: 'share_without_isolation',
    type: { type: 'flag' },
    default: false,
    section: 'Tasks',
    description:
      'Whether this endpoint may be shared with groups or made public although its workers run as the user of the agent, so that a function can read this user’s files, the credentials of the endpoint among them. Set it only when you trust everybody whom you share with. Not needed when the workers run in a systemd unit of their own (worker_host: unit).',
  }),
  row({
    key: 'reserve',
    type: { type: 'integer', min: 0, max: 1024 },
    unit: 'tasks',
    defaultText: '512, or twice the number of threads and interpreters when that is more',
    section: 'Tasks',
    description:
      'Tasks that are taken from the broker and held beside those that run, so that a free worker never waits. They are on this disk and this endpoint’s to run. While tasks run long, no more than two for each thread and interpreter are taken.',
  }),
  reloadedRow({
    key: 'task_timeout_s',
    type: { type: 'seconds', min: 0, max: TIMEOUT_S_MAX },
    unit: 's',
    default: 0,
    section: 'Tasks',
    description: 'Longest run of a task, on the clock; then it is ended and fails. 0: no limit.',
  }),
  reloadedRow({
    key: 'max_retries',
    type: { type: 'integer', min: 0, max: 100 },
    default: 0,
    section: 'Tasks',
    description:
      'How often a task is started again after its worker was lost or the agent was restarted under it. Leave it at 0 unless running your functions twice does no harm.',
  }),
  row({
    key: 'kill_grace_s',
    type: { type: 'seconds', min: 0, max: 300 },
    unit: 's',
    default: 5,
    section: 'Tasks',
    description: 'Time between asking a task to end and killing its worker.',
  }),
  row({
    key: 'result_chars_max',
    type: { type: 'integer', min: 1024, max: RESULT_CHARS_MAX },
    unit: 'characters',
    default: RESULT_CHARS_MAX,
    section: 'Tasks',
    description:
      "Largest result, as serialized text. A larger one fails the task with MaxResultSizeExceeded. Results that are too large for a message go to the hub's blob store (docs/limits.md).",
  }),
  row({
    key: 'output_bytes_max',
    type: { type: 'integer', min: 0, max: OUTPUT_BYTES_LIMIT },
    unit: 'bytes',
    default: OUTPUT_BYTES_MAX,
    section: 'Tasks',
    description:
      'How much of what a task prints is kept, each for stdout and stderr; the end wins.',
  }),
  reloadedRow({
    key: 'heartbeat_period_s',
    type: { type: 'seconds', min: 1, max: 300 },
    unit: 's',
    default: 30,
    section: 'Agent',
    description: 'Time between two signs of life to the hub.',
  }),
  reloadedRow({
    key: 'drain_grace_s',
    type: { type: 'seconds', min: 0, max: TIMEOUT_S_MAX },
    unit: 's',
    default: 30,
    section: 'Agent',
    description:
      'How long `agent stop` lets running tasks go on. After that they are ended and fail; tasks that have not started are handed back.',
  }),
  reloadedRow({
    key: 'idle_heartbeats_soft',
    type: { type: 'integer', min: 0, max: 1_000_000 },
    unit: 'heartbeats',
    default: 0,
    section: 'Agent',
    description:
      'The agent stops by itself after so many heartbeats without a task or a result, once it has worked and everything is delivered. 0: never, whatever idle_heartbeats_hard says.',
  }),
  reloadedRow({
    key: 'idle_heartbeats_hard',
    type: { type: 'integer', min: 0, max: 1_000_000 },
    unit: 'heartbeats',
    default: 5760,
    section: 'Agent',
    description:
      'With idle_heartbeats_soft: the agent also stops after so many heartbeats without a task or a result when it has not worked yet or something hangs. 0: never. 5760 heartbeats of 30 s are two days.',
  }),
  reloadedRow({
    key: 'cleanup_schedule',
    type: { type: 'cron' },
    default: '17 3 * * *',
    section: 'Agent',
    description:
      'When old logs, captured output, sandboxes and leftovers are removed, in the time zone of the agent.',
  }),
  reloadedRow({
    key: 'drain_at',
    type: { type: 'cron' },
    section: 'Agent',
    description:
      'When a maintenance window begins: no more tasks are taken, and those that run may finish. In the time zone of the agent, and always together with resume_at.',
  }),
  reloadedRow({
    key: 'resume_at',
    type: { type: 'cron' },
    section: 'Agent',
    description: 'When a maintenance window ends: tasks are taken again. Together with drain_at.',
  }),
  row({
    key: 'metrics_listen',
    type: { type: 'listen' },
    section: 'Agent',
    description:
      'Where /healthz, /readyz and /metrics (Prometheus) are served, without a password: an address of this machine such as 127.0.0.1:9464, which every user of it can read, or the absolute path of a Unix socket, which only you can. Not set: nowhere.',
  }),
  row({
    key: 'journal_bytes_max',
    type: { type: 'integer', min: JOURNAL_BYTES_MIN, max: TIB },
    unit: 'bytes',
    default: 1024 ** 3,
    section: 'Agent',
    description:
      'Space for tasks and results that are not settled. When it is used up, no more tasks are taken until results have been delivered.',
  }),
  reloadedRow({
    key: 'log_level',
    type: { type: 'choice', choices: LOG_LEVELS },
    default: 'info',
    section: 'Agent',
    description: 'Least important messages that are logged.',
  }),
  reloadedRow({
    key: 'log_bytes_max',
    type: { type: 'integer', min: LOG_BYTES_MIN, max: TIB },
    unit: 'bytes',
    default: 64 * 1024 * 1024,
    section: 'Agent',
    description:
      'Space for all log files of the agent together. When it is used up, the oldest goes. Not for logs that go to journald or to a terminal.',
  }),
  reloadedRow({
    key: 'task_logs_days',
    type: { type: 'integer', min: 0, max: 3650 },
    unit: 'days',
    default: 7,
    section: 'Agent',
    description:
      'How long what tasks printed is kept for `agent logs NAME --task ID`. It is removed at cleanup_schedule. 0: it is not kept.',
  }),
  reloadedRow({
    key: 'task_logs_bytes_max',
    type: { type: 'integer', min: LOG_BYTES_MIN, max: TIB },
    unit: 'bytes',
    default: 256 * 1024 * 1024,
    section: 'Agent',
    description: 'Space for what tasks printed. When it is used up, the oldest goes.',
  }),
  {
    key: 'client_id',
    environment: 'OUTPOST_CLIENT_ID',
    flag: 'client-id',
    type: { type: 'text', lengthMax: 256 },
    secret: false,
    restartNeeded: true,
    section: 'Credentials',
    description:
      'Client id (a UUID) that the endpoint signs in with. Read from the environment or `.env`, not from config.yaml, and always together with its secret.',
  },
  {
    key: 'client_secret',
    environment: 'OUTPOST_CLIENT_SECRET',
    type: { type: 'text', lengthMax: 4096 },
    secret: true,
    restartNeeded: false,
    section: 'Credentials',
    description:
      'Secret of the client. Never on a command line, where other users of the machine see it: `agent configure --client-secret-file FILE` (or - for stdin) puts it into `.env`. When `.env` or the systemd credential changes, the next sign-in uses the new one.',
  },
];

/** Options that stand in config.yaml: all but the credentials. */
export const FILE_OPTIONS: readonly OptionRow[] = AGENT_OPTIONS.filter(
  (option) => option.section !== 'Credentials',
);
