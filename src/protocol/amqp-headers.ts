/** Names of the AMQP headers that travel with tasks and results (protocol.md 5.4, 6.3). */

/** On a task: UUID of the function, required. */
export const FUNCTION_UUID_HEADER = 'function_uuid';
/** On a task: UUID that the result must carry, required; wins over the body's. */
export const TASK_UUID_HEADER = 'task_uuid';
/** On a task: JSON text; absent, empty and "null" all mean none. */
export const RESOURCE_SPECIFICATION_HEADER = 'resource_specification';
/** On a task: array of import paths. */
export const RESULT_SERIALIZERS_HEADER = 'result_serializers';
/** On a task, ours: JSON text of where its function is to run (`TaskEnvironment` of sharing.ts). Absent: in the endpoint's own place. */
export const ENVIRONMENT_HEADER = 'outpost_environment';
/**
 * On a result, ours: JSON text of the captured output (`TaskOutput` of host-frames.ts). A header, because an unknown
 * field in the body makes the Python SDK log a warning per result.
 */
export const TASK_OUTPUT_HEADER = 'outpost_output';
