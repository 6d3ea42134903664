/** `hub tunnel`: a hub elsewhere, served on this machine's localhost, for programs that know no other address. */
import { readAuthorityFile } from '../../base/authority-file.ts';
import { ConfigError } from '../../base/errors.ts';
import { ReleaseStack } from '../../base/release-stack.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import { HUB_VARIABLES } from '../../config/hub-variables.ts';
import { Tunnel } from '../../hub/tunnel/tunnel.ts';
import { parseServerUrl } from '../../transport/http/secure-url.ts';
import { checkCertificate, tlsPeer } from '../../transport/tls/certificate-refused.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine, printNote } from '../output.ts';
import { StopSignals } from './stop-signals.ts';

const PORT = 5000;
const PORT_MAX = 65_535;

/** The command. */
export const tunnel = defineCommand(
  (parser) =>
    parser
      .positional('url', {
        type: 'string',
        demandOption: true,
        describe: 'The hub, such as https://hub.example.org',
      })
      .option('port', {
        type: 'number',
        default: PORT,
        requiresArg: true,
        describe: 'Port on 127.0.0.1 and ::1; the Globus SDK knows only 5000. 0: any free one',
      })
      .option('ca', {
        type: 'string',
        requiresArg: true,
        describe: `PEM file with authorities to trust beside those that Node brings [${HUB_VARIABLES.caFile.name}]`,
      })
      .epilogue('Runs until SIGTERM or SIGINT. Plain http is taken to a hub on this machine only.'),
  async (argv) => {
    const ca = authorities(argv.ca);
    const port = checkedPort(argv.port);
    const hub = parseServerUrl(argv.url, 'URL of the hub');
    const stack = new ReleaseStack();
    const signals = new StopSignals(() => undefined);
    stack.push('signal listeners', () => {
      signals.dispose();
    });
    try {
      if (hub.protocol === 'https:') {
        await checkCertificate(tlsPeer('the hub', hub, 443), ca);
      }
      const running = new Tunnel({
        hubUrl: argv.url,
        port,
        onProblem: printNote,
        ...(ca === undefined ? {} : { ca }),
      });
      stack.push('tunnel', async () => {
        await running.stop();
      });
      const chosen = await running.start();
      const url = `http://localhost:${chosen}`;
      if (argv.json) {
        printJson({ url, port: chosen, hub_url: hub.href.replace(/\/+$/, ''), pid: process.pid });
      } else {
        printLine(`${url} is the hub at ${hub.href.replace(/\/+$/, '')} until you end this.`);
      }
      await signals.requested;
    } finally {
      await stack.release();
    }
    return 0;
  },
);

function authorities(flag: string | undefined): string | undefined {
  const { name } = HUB_VARIABLES.caFile;
  const variable = processEnvironment()[name];
  const [path, key] = flag === undefined ? [variable, name] : [flag, '--ca'];
  if (path === undefined || path === '') {
    return undefined;
  }
  const reading = readAuthorityFile(path);
  if ('pem' in reading) {
    return reading.pem;
  }
  const source = flag === undefined ? 'environment' : 'command line';
  throw new ConfigError('the authorities to trust cannot be used', [
    { key, source, value: path, expected: `expected ${reading.expected}` },
  ]);
}

function checkedPort(port: number): number {
  if (!Number.isInteger(port) || port < 0 || port > PORT_MAX) {
    throw new ConfigError('the port cannot be used', [
      {
        key: '--port',
        source: 'command line',
        value: String(port),
        expected: `expected a whole number from 0 to ${PORT_MAX}`,
      },
    ]);
  }
  return port;
}
