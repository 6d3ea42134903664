/** URLs in messages and logs: whom they name may be shown, the password never. */

/** The URL without its password; text that is no URL is not shown at all. */
export function redactUrl(url: string): string {
  if (!URL.canParse(url)) {
    return '(not a URL)';
  }
  const parsed = new URL(url);
  if (parsed.password !== '') {
    parsed.password = '***';
  }
  // Drivers also take the password as a parameter.
  if (parsed.searchParams.has('password')) {
    parsed.searchParams.set('password', '***');
  }
  return parsed.href;
}
