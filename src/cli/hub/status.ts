/**
 * `hub status`: whether a hub runs and can serve.
 *
 * Exit code 0: it can; 75: it runs and cannot serve now; 69: none runs.
 */
import { errorText } from '../../base/errors.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import { hubEnvironment, readHubConfig } from '../../config/hub-config.ts';
import { HttpTransport } from '../../transport/http/http-transport.ts';
import { defineCommand } from '../command-line.ts';
import { printFields, printJson } from '../output.ts';
import { runningDevHub } from './dev-record.ts';
import type { DevHub } from './dev-record.ts';
import { withEnvFile } from './hub-environment.ts';

const HEALTH_TIMEOUT_MS = 5000;
const EXIT_NOT_RUNNING = 69;
const EXIT_NOT_READY = 75;

/** What a hub says about itself. */
interface Health {
  readonly version?: string;
  readonly checks?: Readonly<
    Record<string, { readonly isReady?: boolean; readonly reason?: string }>
  >;
}

type Answer =
  | { readonly kind: 'answered'; readonly isReady: boolean; readonly health: Health }
  | { readonly kind: 'silent'; readonly reason: string };

/** The command. */
export const status = defineCommand(
  (parser) => withEnvFile(parser),
  async (argv) => {
    const config = readHubConfig(await hubEnvironment(processEnvironment(), argv.envFile));
    const running = runningDevHub(config.home);
    const local = `${config.tls === undefined ? 'http' : 'https'}://localhost:${config.port}`;
    const url = running?.ready?.hubUrl ?? config.publicUrl ?? local;
    const answer = await askHealth(url, config.ca);
    const isRunning = running !== undefined || answer.kind === 'answered';
    const isReady = answer.kind === 'answered' && answer.isReady;
    if (argv.json) {
      printJson(document(running, url, isRunning, isReady, answer));
    } else {
      printStatus(running, url, isRunning, isReady, answer);
    }
    if (isReady) {
      return 0;
    }
    return isRunning ? EXIT_NOT_READY : EXIT_NOT_RUNNING;
  },
);

async function askHealth(url: string, ca: string | undefined): Promise<Answer> {
  try {
    // No credentials are sent, so that plain http will do.
    const transport = new HttpTransport({
      serverName: 'the hub',
      timeoutMs: HEALTH_TIMEOUT_MS,
      retries: 0,
      ...(ca !== undefined && { ca }),
    });
    const reply = await transport.send({
      method: 'GET',
      url: new URL(`${url}/v1/health`),
      idempotent: true,
    });
    const health = JSON.parse(reply.text) as Health;
    if (health.checks === undefined) {
      return { kind: 'silent', reason: `what answers at ${url} is no hub` };
    }
    return { kind: 'answered', isReady: reply.status === 200, health };
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    return { kind: 'silent', reason: errorText(cause ?? error) };
  }
}

function document(
  running: DevHub | undefined,
  url: string,
  isRunning: boolean,
  isReady: boolean,
  answer: Answer,
): Record<string, unknown> {
  return {
    running: isRunning,
    ready: isReady,
    hub_url: url,
    ...(running === undefined ? {} : { pid: running.pid, started_at: running.startedAt }),
    ...(answer.kind === 'answered'
      ? { version: answer.health.version, checks: answer.health.checks }
      : { reason: answer.reason }),
  };
}

function printStatus(
  running: DevHub | undefined,
  url: string,
  isRunning: boolean,
  isReady: boolean,
  answer: Answer,
): void {
  const state = isReady ? 'ready' : isRunning ? 'running, but cannot serve now' : 'not running';
  const checks = answer.kind === 'answered' ? Object.entries(answer.health.checks ?? {}) : [];
  printFields([
    ['hub', state],
    ['url', url],
    ['pid', running === undefined ? undefined : String(running.pid)],
    ['since', running?.startedAt],
    ['version', answer.kind === 'answered' ? answer.health.version : undefined],
    ...checks.map(
      ([name, check]) =>
        [name, check.isReady === true ? 'ready' : (check.reason ?? 'not ready')] as const,
    ),
    ['reason', answer.kind === 'silent' ? answer.reason : undefined],
  ]);
}
