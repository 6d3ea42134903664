/** A person at a browser, for tests: asks for pages, sends their forms, follows nothing by itself. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';

/** A page or a redirect. */
export interface BrowserAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Where a redirect leads. */
  readonly location: URL | undefined;
}

/** What somebody types into a form of the hub. */
export interface Typed {
  readonly username: string;
  readonly password: string;
  readonly decision?: 'allow' | 'deny';
}

/** Asks for a page. */
export async function browse(
  url: string,
  headers: Record<string, string> = {},
): Promise<BrowserAnswer> {
  return await answerOf(await fetch(url, { redirect: 'manual', headers }));
}

/** Sends the form of a page, with what it carries unseen and what the person types. */
export async function submitForm(
  url: string,
  page: BrowserAnswer,
  typed: Typed,
  headers: Record<string, string> = {},
): Promise<BrowserAnswer> {
  const action = /<form method="post" action="([^"]+)"/.exec(page.text)?.[1];
  assert.ok(action !== undefined, page.text);
  const hidden = [
    ...page.text.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g),
  ].map(([, name = '', value = '']): [string, string] => [name, unescaped(value)]);
  const body = new URLSearchParams({ ...Object.fromEntries(hidden), decision: 'allow', ...typed });
  const target = new URL(action, url);
  return await answerOf(await fetch(target, { method: 'POST', redirect: 'manual', headers, body }));
}

function unescaped(text: string): string {
  return text
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&amp;', '&');
}

async function answerOf(response: Response): Promise<BrowserAnswer> {
  const location = response.headers.get('location');
  return {
    status: response.status,
    headers: response.headers,
    text: await response.text(),
    location: location === null ? undefined : new URL(location),
  };
}

/** A verifier and its challenge (RFC 7636). */
export function pkcePair(): { readonly verifier: string; readonly challenge: string } {
  const verifier = randomBytes(32).toString('base64url');
  return { verifier, challenge: createHash('sha256').update(verifier).digest('base64url') };
}
