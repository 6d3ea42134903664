/** The hub at which a person signs in here, and the file in which logins are kept. */
import { systemClock } from '../../base/clock.ts';
import { resolveAgentConfig } from '../../config/agent-config.ts';
import { processEnvironment } from '../../config/config-sources.ts';
import type { Environment } from '../../config/config-sources.ts';
import { outpostHome } from '../../config/endpoint-directory.ts';
import { OUTPOST_APP_ID } from '../../protocol/oauth.ts';
import { LoginFile, loginFilePath } from '../../sdk/login/login-file.ts';
import { PersonLogin } from '../../sdk/login/person-login.ts';
import { PersonGrants } from '../../transport/oauth/person-grants.ts';
import { COMMAND_LIMITS, userAgent } from './hub-place.ts';
import type { CommandLimits, HubPlace } from './hub-place.ts';

/** Where a person signs in. */
export interface LoginPlace {
  readonly hub: HubPlace;
  readonly file: LoginFile;
  readonly grants: PersonGrants;
  readonly person: PersonLogin;
}

/** What is known of the place. */
export interface LoginPlaceOptions {
  /** From an endpoint's settings. */
  readonly hub?: HubPlace;
  /** From the command line. */
  readonly hubUrl?: string | undefined;
  /** Of one request for tokens. Default those of a command. */
  readonly limits?: Partial<CommandLimits>;
  /** Whose login it has to be. Default anybody's. */
  readonly identityId?: string;
}

/** The hub of the environment, unless a command names one or has one from an endpoint's settings. */
export function loginPlace(
  { hub, hubUrl, limits = COMMAND_LIMITS, identityId }: LoginPlaceOptions = {},
  environment: Environment = processEnvironment(),
): LoginPlace {
  const settings =
    hub ?? resolveAgentConfig({ directory: outpostHome(environment), environment }).config;
  const place = { hubUrl: hubUrl ?? settings.hubUrl, ca: settings.ca };
  const file = new LoginFile(loginFilePath(environment), systemClock);
  const grants = new PersonGrants({
    hubUrl: place.hubUrl,
    appId: OUTPOST_APP_ID,
    clock: systemClock,
    userAgent: userAgent(),
    ...(place.ca !== undefined && { ca: place.ca }),
    ...limits,
  });
  return {
    hub: place,
    file,
    grants,
    person: new PersonLogin({
      file,
      grants,
      clock: systemClock,
      ...(identityId !== undefined && { identityId }),
    }),
  };
}
