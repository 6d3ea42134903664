/**
 * Where a person's browser comes by: to let an application in (authorization code, protocol.md 2.6), to copy a code, and to let a
 * terminal in (device authorization, RFC 8628 3.3).
 *
 * Until the application and its redirect_uri are known to be right, a refusal is a page; from then on it is sent back to the application.
 */
import formbody from '@fastify/formbody';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { CODE_PAGE_PATH, isAllowedRedirect, requireApp } from '../../auth/apps.ts';
import type { App } from '../../auth/apps.ts';
import { isCodeChallenge } from '../../auth/authorization-codes.ts';
import type { AuthorizationRequest } from '../../auth/authorization-codes.ts';
import { OAuthError } from '../../auth/oauth-error.ts';
import type { AuthenticatedPerson } from '../../auth/people.ts';
import { grantedScopes } from '../../auth/person-logins.ts';
import { purposesOf } from '../../auth/scopes.ts';
import type { SignIn } from '../../auth/sign-in.ts';
import { consentForm, markup, sendPage, sendProblemPage, userCodeForm } from '../login-pages.ts';
import { hubOrigins } from '../public-origin.ts';
import type { RouteContext } from '../route-context.ts';

/** Path of the page on which terminals are let in. */
export const DEVICE_PAGE_PATH = '/device';

const AUTHORIZE_PATH = '/v2/oauth2/authorize';
/** Parameters that the form carries from the first request to the second, where all are checked again. */
const CARRIED = [
  'client_id',
  'redirect_uri',
  'scope',
  'state',
  'response_type',
  'code_challenge',
  'code_challenge_method',
  'nonce',
  'prefill_named_grant',
];
const PARAMETER_CHARS_MAX = 4096;

type Fields = Readonly<Record<string, string>>;
type PageRequest = FastifyRequest<{ Querystring: unknown; Body: unknown }>;

/** Adds the pages. */
export async function signInPages(app: FastifyInstance, context: RouteContext): Promise<void> {
  await app.register(async (scope) => {
    await scope.register(formbody);
    const { signIn } = context;
    const options = { config: { access: 'none' }, schema: { hide: true } } as const;
    scope.setErrorHandler((error, _request, reply) => {
      if (!(error instanceof OAuthError)) {
        throw error;
      }
      return sendProblemPage(reply, error.httpStatus, error.message);
    });
    scope.get(AUTHORIZE_PATH, options, (request: PageRequest, reply) => {
      const fields = textFields(request.query);
      const asked = authorizationAsked(signIn, request, fields);
      return 'refusal' in asked
        ? sendBack(reply, asked.back, asked.refusal)
        : showConsent(reply, asked, fields);
    });
    scope.post(AUTHORIZE_PATH, options, async (request: PageRequest, reply) => {
      return await answerConsent(signIn, request, reply);
    });
    scope.get(CODE_PAGE_PATH, options, (request: PageRequest, reply) =>
      showCode(reply, textFields(request.query)),
    );
    scope.get(DEVICE_PAGE_PATH, options, async (request: PageRequest, reply) => {
      return await showDevice(signIn, reply, textFields(request.query)['user_code']);
    });
    scope.post(DEVICE_PAGE_PATH, options, async (request: PageRequest, reply) => {
      return await answerDevice(signIn, request, reply);
    });
  });
}

/** Where an answer goes. */
interface WayBack {
  readonly redirectUri: string;
  readonly state: string | undefined;
}

interface Asked {
  readonly app: App;
  readonly request: AuthorizationRequest;
  readonly back: WayBack;
}

interface Refused {
  readonly refusal: OAuthError;
  readonly back: WayBack;
}

/** What the application asks for. @throws OAuthError as long as there is no address that is known to be the application's. */
function authorizationAsked(
  signIn: SignIn,
  request: FastifyRequest,
  fields: Fields,
): Asked | Refused {
  const app = requireApp(fields['client_id']);
  const { redirect_uri: redirectUri = '', state } = fields;
  if (!isAllowedRedirect(redirectUri, hubOrigins(signIn.publicUrl, request))) {
    throw new OAuthError(
      'invalid_request',
      'the redirect_uri of the application is neither an address of this machine nor the code page of this hub. ' +
        'When GLOBUS_SDK_SERVICE_URL_AUTH is set, it must end with a slash.',
    );
  }
  const back = { redirectUri, state };
  try {
    return { app, back, request: { appId: app.id, redirectUri, ...checkedParameters(fields) } };
  } catch (error) {
    if (error instanceof OAuthError) {
      return { refusal: error, back };
    }
    throw error;
  }
}

function checkedParameters(
  fields: Fields,
): Pick<AuthorizationRequest, 'codeChallenge' | 'scope' | 'nonce'> {
  if (fields['response_type'] !== 'code') {
    throw new OAuthError('unsupported_response_type', 'this hub knows response_type=code only');
  }
  const { code_challenge: codeChallenge = '', code_challenge_method: method, nonce } = fields;
  if (method !== 'S256' || !isCodeChallenge(codeChallenge)) {
    throw new OAuthError(
      'invalid_request',
      'PKCE is required: send code_challenge with code_challenge_method=S256',
    );
  }
  const scope = fields['scope'] ?? '';
  return {
    codeChallenge,
    scope: grantedScopes(scope)
      .flatMap(({ scopes }) => scopes)
      .join(' '),
    nonce: nonce ?? null,
  };
}

function showConsent(
  reply: FastifyReply,
  { app, request }: Asked,
  fields: Fields,
  again: { readonly problem?: string; readonly status?: number } = {},
): FastifyReply {
  const { prefill_named_grant: label, username } = fields;
  const hidden = Object.fromEntries(
    CARRIED.flatMap((name) => (fields[name] === undefined ? [] : [[name, fields[name]]])),
  );
  return sendPage(reply, {
    title: 'Sign in',
    ...(again.status === undefined ? {} : { status: again.status }),
    formTargets: [formTarget(request.redirectUri)],
    body: consentForm({
      action: AUTHORIZE_PATH,
      appName: app.name,
      purposes: purposesOf(grantedScopes(request.scope)),
      hidden,
      ...(label === undefined ? {} : { label }),
      ...(username === undefined ? {} : { username }),
      ...(again.problem === undefined ? {} : { problem: again.problem }),
    }),
  });
}

async function answerConsent(
  signIn: SignIn,
  request: PageRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  refuseOtherSites(request);
  const fields = textFields(request.body);
  const asked = authorizationAsked(signIn, request, fields);
  if ('refusal' in asked) {
    return await sendBack(reply, asked.back, asked.refusal);
  }
  if (fields['decision'] !== 'allow') {
    const refusal = new OAuthError('access_denied', 'the person refused');
    return await sendBack(reply, asked.back, refusal);
  }
  const attempt = await authenticatePerson(signIn, request, reply, fields);
  if ('problem' in attempt) {
    return await showConsent(reply, asked, fields, attempt);
  }
  const { person } = attempt;
  const code = await signIn.people.whileWelcome(
    person,
    async (transaction) => await signIn.codes.issue(asked.request, person.id, transaction),
  );
  return code === undefined
    ? await showConsent(reply, asked, fields, NOT_LET_IN)
    : await sendBack(reply, asked.back, code);
}

function showCode(reply: FastifyReply, fields: Fields): FastifyReply {
  const { code, error, error_description: description } = fields;
  if (code === undefined) {
    return sendProblemPage(
      reply,
      400,
      description ?? error ?? 'there is no code to be copied here',
    );
  }
  return sendPage(reply, {
    title: 'Copy this code',
    body: markup`<p>Paste it where you were asked for it. It is good for five minutes, once.</p><p><code>${code}</code></p>`,
  });
}

async function showDevice(
  signIn: SignIn,
  reply: FastifyReply,
  userCode: string | undefined,
  again: { readonly problem?: string; readonly status?: number; readonly username?: string } = {},
): Promise<FastifyReply> {
  const device = userCode === undefined ? undefined : await signIn.devices.waiting(userCode);
  if (device === undefined) {
    const problem =
      userCode === undefined
        ? undefined
        : 'No terminal waits with this code. Codes are good for ten minutes; type it again, or run the command again.';
    return await sendPage(reply, {
      title: 'Let a terminal sign in',
      status: problem === undefined ? 200 : 404,
      body: userCodeForm(DEVICE_PAGE_PATH, problem),
    });
  }
  const { status, problem, username } = again;
  return await sendPage(reply, {
    title: `Let the terminal with ${device.userCode} sign in`,
    ...(status === undefined ? {} : { status }),
    body: consentForm({
      action: DEVICE_PAGE_PATH,
      appName: requireApp(device.appId).name,
      purposes: purposesOf(grantedScopes(device.scope)),
      hidden: { user_code: device.userCode },
      ...(username === undefined ? {} : { username }),
      ...(problem === undefined ? {} : { problem }),
    }),
  });
}

async function answerDevice(
  signIn: SignIn,
  request: PageRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  refuseOtherSites(request);
  const fields = textFields(request.body);
  const { user_code: userCode = '', username } = fields;
  // Also to refuse: nobody else should be able to turn away a terminal whose code they saw.
  const attempt = await authenticatePerson(signIn, request, reply, fields);
  if ('problem' in attempt) {
    return await showDevice(signIn, reply, userCode, {
      ...attempt,
      ...(username === undefined ? {} : { username }),
    });
  }
  const isAllowed = fields['decision'] === 'allow';
  const { person } = attempt;
  const isDecided = await signIn.people.whileWelcome(
    person,
    async (transaction) =>
      await signIn.devices.decide(
        userCode,
        isAllowed ? { personId: person.id } : 'denied',
        transaction,
      ),
  );
  if (isDecided !== true) {
    return await showDevice(
      signIn,
      reply,
      userCode,
      isDecided === undefined ? { ...NOT_LET_IN, username: person.username } : undefined,
    );
  }
  return await sendPage(reply, {
    title: isAllowed ? 'The terminal is signed in' : 'The terminal was refused',
    body: markup`<p>You can close this page.</p>`,
  });
}

const NOT_LET_IN = {
  problem:
    'This username and password do not let anybody in. Check both; whoever runs this hub can give a new password.',
  status: 403,
};

type Attempt =
  { readonly person: AuthenticatedPerson } | { readonly problem: string; readonly status: number };

async function authenticatePerson(
  { people, throttle }: SignIn,
  request: FastifyRequest,
  reply: FastifyReply,
  fields: Fields,
): Promise<Attempt> {
  const username = (fields['username'] ?? '').trim();
  const waitS = throttle.waitS(username, request.ip);
  if (waitS > 0) {
    reply.raw.setHeader('retry-after', waitS);
    return { problem: `Too many wrong passwords. Try again in ${waitS} s.`, status: 429 };
  }
  throttle.attempted(username, request.ip);
  const person = await people.authenticate(username, fields['password'] ?? '');
  if (person === undefined) {
    return NOT_LET_IN;
  }
  throttle.succeeded(username, request.ip);
  return { person };
}

/** The application is told by way of the browser (RFC 6749 4.1.2). */
function sendBack(
  reply: FastifyReply,
  { redirectUri, state }: WayBack,
  answer: string | OAuthError,
): FastifyReply {
  const target = new URL(redirectUri);
  if (typeof answer === 'string') {
    target.searchParams.set('code', answer);
  } else {
    target.searchParams.set('error', answer.error);
    target.searchParams.set('error_description', answer.message);
  }
  if (state !== undefined) {
    target.searchParams.set('state', state);
  }
  return reply
    .headers({ 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' })
    .redirect(target.href, 303);
}

/** A form of ours comes from a page of ours. Browsers say so; programs need not. */
function refuseOtherSites(request: FastifyRequest): void {
  if (request.headers['sec-fetch-site'] === 'cross-site') {
    throw new OAuthError('invalid_request', 'this form was sent by a page of another site');
  }
}

/** Parameters that were sent once and are not empty. */
function textFields(source: unknown): Fields {
  return Object.fromEntries(
    Object.entries(source ?? {}).filter(
      (entry): entry is [string, string] =>
        typeof entry[1] === 'string' && entry[1] !== '' && entry[1].length <= PARAMETER_CHARS_MAX,
    ),
  );
}

/** As a source of a content security policy, which knows no IPv6 addresses. */
function formTarget(redirectUri: string): string {
  const { origin, hostname } = new URL(redirectUri);
  return hostname.startsWith('[') ? 'http:' : origin;
}
