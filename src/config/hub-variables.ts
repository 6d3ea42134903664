/**
 * The table of the variables that a hub reads, each with what the documentation says about it. hub-config.ts reads them.
 *
 * Adding one: a row here (or in hub-limits.ts), a line in hub-config.ts, and one in the table of docs/hub.md, which a test looks for.
 */
import { FUNCTION_BYTES_MAX, SUBMISSION_BYTES_MAX } from '../protocol/limits.ts';
import { LIMIT_VARIABLES } from './hub-limits.ts';
import { LOG_LEVELS } from './log-levels.ts';
import type { Variable } from './variable-reader.ts';

/** Every variable that the hub reads. */
export const HUB_VARIABLES = {
  databaseUrl: {
    name: 'OUTPOST_DATABASE_URL',
    summary: 'PostgreSQL database of the hub, such as postgresql://user:password@host:5432/outpost',
  },
  amqpUrl: {
    name: 'OUTPOST_AMQP_URL',
    summary: 'RabbitMQ as the hub dials it, such as amqps://user:password@host:5671/vhost',
  },
  amqpPublicUrl: {
    name: 'OUTPOST_AMQP_PUBLIC_URL',
    summary: 'RabbitMQ as endpoints and SDKs dial it; credentials in it are ignored',
    defaultText: 'OUTPOST_AMQP_URL',
  },
  managementUrl: {
    name: 'OUTPOST_AMQP_MANAGEMENT_URL',
    summary: "RabbitMQ's management API, such as https://user:password@host:15671",
  },
  caFile: {
    name: 'OUTPOST_CA_FILE',
    summary:
      'PEM file with authorities to trust beside those that Node brings, for RabbitMQ, its management API and PostgreSQL',
  },
  host: {
    name: 'OUTPOST_HUB_HOST',
    summary: 'Address to listen on; localhost is 127.0.0.1 and ::1',
    defaultText: 'localhost',
  },
  port: { name: 'OUTPOST_HUB_PORT', summary: 'Port to listen on', defaultText: '5000' },
  publicUrl: {
    name: 'OUTPOST_HUB_URL',
    summary: 'Where others reach the hub',
    defaultText: 'made of host and port',
  },
  tlsCertFile: {
    name: 'OUTPOST_HUB_TLS_CERT_FILE',
    summary: 'PEM file with the certificate chain of the hub; with it the hub speaks https',
  },
  tlsKeyFile: {
    name: 'OUTPOST_HUB_TLS_KEY_FILE',
    summary: 'PEM file with the key of that certificate',
  },
  oidcIssuers: {
    name: 'OUTPOST_OIDC_ISSUERS',
    summary:
      'Issuers (OpenID Connect) whose signed tokens sign people in: a JSON list, or the path of a file with one; docs/sign-in.md has the fields',
    defaultText: 'none',
  },
  submissionBytesMax: {
    name: 'OUTPOST_HUB_SUBMISSION_BYTES_MAX',
    summary: 'Largest request body, in bytes',
    defaultText: String(SUBMISSION_BYTES_MAX),
  },
  functionBytesMax: {
    name: 'OUTPOST_HUB_FUNCTION_BYTES_MAX',
    summary: 'Largest function, in bytes',
    defaultText: String(FUNCTION_BYTES_MAX),
  },
  submissionTasksMax: {
    name: 'OUTPOST_HUB_SUBMISSION_TASKS_MAX',
    summary: 'Most tasks in one submission',
    defaultText: '20000',
  },
  ...LIMIT_VARIABLES,
  retentionDays: {
    name: 'OUTPOST_HUB_RETENTION_DAYS',
    summary: 'How long results stay readable, in days',
    defaultText: '14',
  },
  taskTtlDays: {
    name: 'OUTPOST_HUB_TASK_TTL_DAYS',
    summary: 'How long a task may wait for its endpoint, in days',
    defaultText: '14',
  },
  lostAfterS: {
    name: 'OUTPOST_HUB_LOST_AFTER_S',
    summary:
      'How long an endpoint may be gone before the tasks that it received count as lost, in seconds',
    defaultText: '86400',
  },
  logLevel: {
    name: 'OUTPOST_HUB_LOG_LEVEL',
    summary: `One of ${LOG_LEVELS.join(', ')}`,
    defaultText: 'info',
  },
} as const satisfies Record<string, Variable>;
