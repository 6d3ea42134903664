/** `agent config show` and `agent config reference`. */
import { renderConfigurationReference } from '../../config/config-rendering.ts';
import { loadAgentConfig } from '../../config/load-agent-config.ts';
import { defineCommand, defineGroup } from '../command-line.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { openEndpoint, withEndpointName } from './endpoint-argument.ts';

const show = defineCommand(
  (parser) =>
    withEndpointName(parser).option('origin', {
      type: 'boolean',
      default: false,
      describe: 'Show where each value comes from',
    }),
  async (argv) => {
    const { directory, environment } = await openEndpoint(argv.name);
    const { origins } = await loadAgentConfig(directory, environment);
    if (argv.json) {
      const rows = origins.map(({ key, value, source }) => [
        key,
        argv.origin ? { value: value ?? null, source } : (value ?? null),
      ]);
      printJson(Object.fromEntries(rows));
      return 0;
    }
    printTable(origins, [
      { title: 'SETTING', value: ({ key }) => key },
      { title: 'VALUE', value: ({ value }) => valueText(value) },
      ...(argv.origin
        ? [{ title: 'SOURCE', value: ({ source }: { source: string }) => source }]
        : []),
    ]);
    return 0;
  },
);

const reference = defineCommand(
  (parser) => parser,
  async (argv) => {
    const text = renderConfigurationReference();
    if (argv.json) {
      printJson({ markdown: text });
    } else {
      printLine(text.trimEnd());
    }
    return await Promise.resolve(0);
  },
);

/** Shows settings in force, and all that there are. */
export const config = defineGroup([
  {
    command: 'show [name]',
    summary: 'Show the settings in force',
    load: async () => await Promise.resolve(show),
  },
  {
    command: 'reference',
    summary: 'Print the description of all settings (Markdown)',
    load: async () => await Promise.resolve(reference),
  },
]);

function valueText(value: unknown): string {
  if (value === undefined) {
    return '-';
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}
