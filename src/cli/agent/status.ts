/** `agent status`. */
import { defineCommand } from '../command-line.ts';
import { bytesText, durationText, printFields, printJson, timeText } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';
import { fieldsOf, readStatus, stateText } from './status-document.ts';
import type { StatusDocument, TaskCounts } from './status-document.ts';
import { environmentText, jobTexts, modeText, reloadText } from './status-texts.ts';

/** Shows what an endpoint does. */
export const status = defineCommand(
  (parser) => withEndpointName(parser),
  async (argv) => {
    const document = await readStatus(await openEndpoint(argv.name));
    if (argv.json) {
      printJson(document);
    } else {
      printFields(statusFields(document));
    }
    return 0;
  },
);

const FULL =
  ', FULL: running tasks go on, and no new tasks are taken until there is room. Free space on its disk, or raise journal_bytes_max';

function statusFields(document: StatusDocument): (readonly [string, string | undefined])[] {
  const { tasks, workers, since, reason, journal } = document;
  return [
    ['Endpoint', document.name],
    ['Id', document.endpoint_id ?? 'not registered yet'],
    ['State', reason === null ? stateText(document) : `${stateText(document)} (${reason})`],
    ['Mode', modeText(document.mode)],
    ['Since', since === null ? undefined : sinceText(since)],
    ['Process', document.pid === null ? undefined : `${document.pid} on ${document.host ?? '?'}`],
    ['Hub', document.hub_url ?? undefined],
    ...document.notices.map((notice): [string, string] => ['Warning', notice]),
    ['Tasks', tasks === null ? undefined : tasksText(tasks)],
    ['Workers', workers === null ? undefined : countsText(workers)],
    ...Object.entries(document.degraded).map(([language, why]): [string, string] => [
      'Degraded',
      `${language}: ${why}`,
    ]),
    ...document.environments.map((one): [string, string] => ['Environment', environmentText(one)]),
    ['Journal', journal === null ? undefined : journalText(journal)],
    ['Stalled', stallsText(document.stalls)],
    ['Settings', reloadText(document)],
    ...jobTexts(document.jobs),
    ['Tasks from', sessionText(document.sessions?.['tasks'])],
    ['Results to', sessionText(document.sessions?.['results'])],
    [
      'Uses',
      document.rss_bytes === null
        ? undefined
        : `${bytesText(document.rss_bytes)} resident, ${(document.cpu_seconds ?? 0).toFixed(1)} s of processor time`,
    ],
  ];
}

function tasksText({ running, waiting, done, failed }: TaskCounts): string {
  const ended = done === null || failed === null ? '' : `, ${done} done, ${failed} failed`;
  return `${running} running, ${waiting} waiting${ended}`;
}

function countsText(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([language, count]) => `${count} ${language}`)
    .join(', ');
}

function journalText(journal: Readonly<Record<string, unknown>>): string | undefined {
  const { liveCount, bytes, full } = journal;
  if (typeof liveCount !== 'number' || typeof bytes !== 'number') {
    return undefined;
  }
  return `${liveCount} open tasks, ${bytesText(bytes)}${full === true ? FULL : ''}`;
}

function stallsText(stalls: readonly unknown[]): string | undefined {
  const texts = stalls.map((stall) => {
    const { loop, count, last_at: lastAt } = fieldsOf(stall);
    return `${String(loop)} (${String(count)} times, last at ${String(lastAt)})`;
  });
  return texts.length === 0 ? undefined : `${texts.join(', ')}; see: agent logs`;
}

function sessionText(session: unknown): string | undefined {
  const { phase, reason, attempt } = fieldsOf(session);
  if (typeof phase !== 'string') {
    return undefined;
  }
  const why = typeof reason === 'string' ? `: ${reason}` : '';
  const tries = typeof attempt === 'number' ? `, attempt ${attempt}` : '';
  return `broker ${phase}${why}${tries}`;
}

function sinceText(since: string): string {
  const at = Date.parse(since);
  return Number.isNaN(at) ? since : `${timeText(at)} (${durationText(Date.now() - at)})`;
}
