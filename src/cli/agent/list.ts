/** `agent list`. */
import { processEnvironment } from '../../config/config-sources.ts';
import { listEndpointDirectories, outpostHome } from '../../config/endpoint-directory.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printNote, printTable, timeText } from '../output.ts';
import { readStatus, stateText } from './status-document.ts';

/** Lists the endpoints of this user with their states. */
export const list = defineCommand(
  (parser) => parser,
  async (argv) => {
    const environment = processEnvironment();
    const home = outpostHome(environment);
    const directories = await listEndpointDirectories(home);
    const documents = await Promise.all(
      directories.map(async (directory) => await readStatus({ environment, home, directory })),
    );
    const endpoints = documents.map(({ name, endpoint_id: id, state, mode, pid, host, since }) => ({
      name,
      endpoint_id: id,
      state,
      mode,
      pid,
      host,
      since,
    }));
    if (argv.json) {
      printJson({ home, endpoints });
      return 0;
    }
    if (endpoints.length === 0) {
      printNote(`There are no endpoints in ${home}. Make one with: agent configure`);
      return 0;
    }
    printTable(endpoints, [
      { title: 'NAME', value: ({ name }) => name },
      { title: 'ID', value: ({ endpoint_id: id }) => id ?? '-' },
      { title: 'STATE', value: stateText },
      { title: 'HOST', value: ({ host }) => host ?? '-' },
      { title: 'PID', value: ({ pid }) => pid?.toString() ?? '-', align: 'right' },
      {
        title: 'SINCE',
        value: ({ since }) => (since === null ? '-' : timeText(Date.parse(since))),
      },
    ]);
    return 0;
  },
);
