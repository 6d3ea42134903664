/**
 * The pages on which people sign in: plain HTML without scripts, styles whose hash the policy names, nothing from elsewhere.
 *
 * Every form that lets something in carries the password, and no cookie is ever set. A page of somebody else can therefore make a
 * browser send nothing that would be taken for the person's will (CSRF), and there is no session to steal.
 */
import { createHash } from 'node:crypto';

import type { FastifyReply } from 'fastify';

/** A piece of HTML: what stands in it is escaped already. */
export interface Html {
  readonly html: string;
}

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:10vh auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.3rem}label{display:block;margin:.8rem 0}input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.4rem}
button{font:inherit;padding:.4rem 1rem;margin:.8rem .6rem 0 0}.problem{border-left:4px solid #b00020;padding:.2rem .8rem}
code{font-size:1.1rem;word-break:break-all;user-select:all}
@media (prefers-color-scheme:dark){body{color:#eee;background:#161616}a{color:#9cf}}`;
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64');

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escaped(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}

/**
 * HTML whose holes are filled with text, escaped, or with other HTML.
 *
 * Not called `html`: formatters would take it for a document of theirs and put white space where the policy hashes the style.
 */
export function markup(
  parts: TemplateStringsArray,
  ...holes: (string | Html | readonly Html[])[]
): Html {
  const texts = holes.map((hole) => {
    if (typeof hole === 'string') {
      return escaped(hole);
    }
    return 'html' in hole ? hole.html : hole.map((piece) => piece.html).join('');
  });
  return { html: parts.map((part, index) => part + (texts[index] ?? '')).join('') };
}

/** A page to be sent. */
export interface Page {
  /** @defaultValue 200 */
  readonly status?: number;
  readonly title: string;
  readonly body: Html;
  /** Where a form may lead beside this hub. */
  readonly formTargets?: readonly string[];
}

/** Sends a page that nobody may frame, keep or be told the address of. */
export function sendPage(reply: FastifyReply, page: Page): FastifyReply {
  const policy = [
    "default-src 'none'",
    `style-src 'sha256-${STYLE_HASH}'`,
    "base-uri 'none'",
    "frame-ancestors 'none'",
    // Browsers hold redirects after a form to it as well.
    ["form-action 'self'", ...(page.formTargets ?? [])].join(' '),
  ];
  const document = markup`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${page.title}</title><style>${{ html: STYLE }}</style></head>
<body><h1>${page.title}</h1>${page.body}</body></html>`;
  return reply
    .code(page.status ?? 200)
    .headers({
      'content-security-policy': policy.join('; '),
      'cache-control': 'no-store',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
    })
    .type('text/html; charset=utf-8')
    .send(document.html);
}

/** A page that says why it goes no further. */
export function sendProblemPage(
  reply: FastifyReply,
  status: number,
  problem: string,
): FastifyReply {
  return sendPage(reply, { status, title: 'Signing in did not work', body: alert(problem) });
}

/** Fields that a form sends along unseen. */
export type HiddenFields = Readonly<Record<string, string>>;

/** What a {@link consentForm} says. */
export interface Consent {
  readonly action: string;
  readonly appName: string;
  /** What the application calls itself and its machine; only its word. */
  readonly label?: string;
  readonly purposes: readonly string[];
  readonly hidden: HiddenFields;
  readonly username?: string;
  readonly problem?: string;
}

/** The form on which somebody lets an application or a device in. */
export function consentForm(form: Consent): Html {
  const label =
    form.label === undefined ? markup`` : markup` <small>(calls itself “${form.label}”)</small>`;
  const hidden = Object.entries(form.hidden).map(
    ([name, value]) => markup`<input type="hidden" name="${name}" value="${value}">`,
  );
  const purposes = form.purposes.map((purpose) => markup`<li>${purpose}</li>`);
  return markup`${alert(form.problem)}<p><b>${form.appName}</b>${label} asks to:</p><ul>${purposes}</ul>
<form method="post" action="${form.action}">${hidden}
<label>Username
<input name="username" autocomplete="username" autocapitalize="none" maxlength="256" value="${form.username ?? ''}" autofocus></label>
<label>Password
<input name="password" type="password" autocomplete="current-password" maxlength="1024"></label>
<button name="decision" value="allow">Sign in and allow</button>
<button name="decision" value="deny">Refuse</button></form>
<p><small>Go on only if you started this yourself. Passwords come from whoever runs this hub (<code>hub user password</code>).</small></p>`;
}

/** The form for the code that a terminal shows. */
export function userCodeForm(action: string, problem?: string): Html {
  return markup`${alert(problem)}<form method="get" action="${action}">
<label>The code that your terminal shows
<input name="user_code" autocomplete="off" autocapitalize="characters" maxlength="32" autofocus></label>
<button>Go on</button></form>`;
}

function alert(problem: string | undefined): Html {
  return problem === undefined ? markup`` : markup`<p class="problem" role="alert">${problem}</p>`;
}
