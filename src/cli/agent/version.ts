/** `agent version`. */
import { packageVersion } from '../../base/package-root.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine } from '../output.ts';

/** Shows the versions that matter in a bug report. */
export const version = defineCommand(
  (parser) => parser,
  async (argv) => {
    const versions = {
      outpost: packageVersion(),
      node: process.versions.node,
      platform: `${process.platform}-${process.arch}`,
    };
    if (argv.json) {
      printJson(versions);
    } else {
      printLine(`outpost ${versions.outpost} (Node ${versions.node}, ${versions.platform})`);
    }
    return await Promise.resolve(0);
  },
);
