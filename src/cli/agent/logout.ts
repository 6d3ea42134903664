/** `agent logout`: ends the login of a person, here and at the hub. */
import { UnavailableError } from '../../base/errors.ts';
import { defineCommand } from '../command-line.ts';
import { printJson, printLine, printNote } from '../output.ts';
import { loginPlace } from './login-place.ts';

/** Ends the login. Client credentials are not touched. */
export const logout = defineCommand(
  (parser) =>
    parser.option('hub-url', {
      type: 'string',
      requiresArg: true,
      describe: 'Hub to sign out at [OUTPOST_HUB_URL]',
    }),
  async (argv) => {
    const { hub, person } = loginPlace({ hubUrl: argv.hubUrl });
    let wasSignedIn = true;
    try {
      wasSignedIn = await person.end();
    } catch (error) {
      if (!(error instanceof UnavailableError)) {
        throw error;
      }
      printNote(
        `Note: the tokens are forgotten here, and the hub could not be told (${error.message}) The login ends there after 90 days without use.`,
      );
    }
    if (argv.json) {
      printJson({ hub_url: hub.hubUrl, signed_out: wasSignedIn });
    } else {
      printLine(
        wasSignedIn ? `Signed out at ${hub.hubUrl}.` : `Nobody was signed in at ${hub.hubUrl}.`,
      );
    }
    return 0;
  },
);
