/** On what the bench ran: figures without their conditions say nothing. */
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';

import pg from 'pg';

import type { BenchOptions } from './options.ts';
import type { Conditions } from './report.ts';
import type { Site } from './site.ts';
import { round } from './statistics.ts';

/** Load average of the last minute. */
export function loadNow(): number {
  return round(loadavg()[0] ?? 0);
}

/** Describes machine, servers and effort, at the end of a run. */
export async function describeConditions(
  site: Site,
  options: BenchOptions,
  begun: { readonly date: Date; readonly load: number; readonly ms: number },
): Promise<Conditions> {
  const overview = (await site.manage('GET', '/overview')) as { rabbitmq_version: string };
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGb: round(totalmem() / 1e9, 0),
    platform: platformName(),
    node: process.versions.node,
    rabbitmq: overview.rabbitmq_version,
    postgresql: await postgresqlVersion(site.stack.environment['OUTPOST_DATABASE_URL'] ?? ''),
    date: begun.date.toISOString().slice(0, 10),
    load: { before: begun.load, after: loadNow() },
    tasks: options.taskCount,
    runs: options.runCount,
    seconds: round((performance.now() - begun.ms) / 1000, 0),
  };
}

function platformName(): string {
  const name = /^PRETTY_NAME="?([^"\n]+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  return `${name ?? process.platform}, kernel ${release()}`;
}

async function postgresqlVersion(databaseUrl: string): Promise<string> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ server_version: string }>('show server_version');
    return rows[0]?.server_version.split(' ')[0] ?? 'unknown';
  } finally {
    await client.end();
  }
}
