/**
 * `agent login`: signs a person in. The terminal shows an address and a code, the browser may be on any machine.
 *
 * Where nobody sits at a terminal it fails at once, unless it is told with `--no-browser` that somebody will read what it prints.
 */
import { spawn } from 'node:child_process';

import { systemClock } from '../../base/clock.ts';
import { AuthError } from '../../base/errors.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import type { Environment } from '../../config/config-sources.ts';
import { CREDENTIAL_VARIABLES } from '../../config/credentials.ts';
import type { DeviceAuthorization } from '../../protocol/oauth.ts';
import { LOGIN_SCOPES, loginOf } from '../../sdk/login/default-login-manager.ts';
import { signInOnDevice } from '../../sdk/login/device-login.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine, printNote } from '../output.ts';
import { loginPlace } from './login-place.ts';

/** Signs in and keeps the tokens. */
export const login = defineCommand(
  (parser) =>
    parser
      .option('hub-url', {
        type: 'string',
        requiresArg: true,
        describe: 'Hub to sign in at [OUTPOST_HUB_URL]',
      })
      .option('browser', {
        type: 'boolean',
        default: true,
        describe:
          'Open a browser here; --no-browser only prints where to go, also without a terminal',
      }),
  async (argv) => {
    const environment = processEnvironment();
    if (argv.browser && !(process.stdin.isTTY && process.stderr.isTTY)) {
      throw new AuthError(
        'CREDENTIALS_MISSING',
        'There is no terminal here, so nobody may see the code to sign in with. Run `agent login` on a terminal, or ' +
          '`agent login --no-browser` where somebody reads what it prints. Programs sign in with OUTPOST_CLIENT_ID and OUTPOST_CLIENT_SECRET.',
      );
    }
    const { hub, file, grants, person } = loginPlace({ hubUrl: argv.hubUrl }, environment);
    const tokens = await signInOnDevice({
      grants,
      scope: LOGIN_SCOPES,
      clock: systemClock,
      show: (device) => {
        show(device);
        if (argv.browser) {
          openBrowser(device.verification_uri_complete, environment);
        }
      },
    });
    const kept = loginOf(tokens, systemClock.now());
    const stillAlive = await person.keep(kept);
    const { id, username } = kept.identity;
    if (argv.json) {
      printJson({ identity_id: id, username, hub_url: hub.hubUrl, file: file.path });
    } else {
      printLine(`Signed in at ${hub.hubUrl} as ${username} (${id}).`);
    }
    if (stillAlive !== undefined) {
      printNote(
        `Note: the login before could not be ended at the hub (${stillAlive.message}) It ends there after 90 days without use.`,
      );
    }
    const [winner] = CREDENTIAL_VARIABLES.filter((name) => (environment[name] ?? '') !== '');
    if (winner !== undefined) {
      printNote(
        `Note: ${winner} is set, and client credentials win over a login; unset it to act as ${username}.`,
      );
    }
    return 0;
  },
);

function show(device: DeviceAuthorization): void {
  printNote(`Open ${device.verification_uri} in any browser and type the code:`);
  printNote(`\n    ${device.user_code}\n`);
  printNote(`or open ${device.verification_uri_complete}`);
  printNote(`Waiting for up to ${Math.round(device.expires_in / 60)} minutes …`);
}

/** Best effort: where there is no desktop, the person has the address. */
function openBrowser(url: string, environment: Environment): void {
  const hasDesktop = [environment['DISPLAY'], environment['WAYLAND_DISPLAY']].some(
    (display) => (display ?? '') !== '',
  );
  if (!hasDesktop) {
    return;
  }
  const child = spawn('xdg-open', [url], { detached: true, stdio: 'ignore' });
  child.on('error', () => {
    printNote('No browser could be opened here.');
  });
  child.unref();
}
