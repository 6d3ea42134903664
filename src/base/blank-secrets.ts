/**
 * Takes secrets out of text that somebody else wrote, by their form: passwords in URLs, bearer and basic credentials.
 *
 * The text may be what a function printed, so every pattern is bounded: looking takes time in proportion to the length.
 */

/** What stands in the place of a secret. */
export const SECRET_PLACEHOLDER = '[secret]';

/** No scheme of a URL is longer; without a bound a long text of dots would be looked through once for each of them. */
const URL_WITH_PASSWORD = /(?<prefix>\b[a-z][a-z0-9+.-]{0,30}:\/\/[^\s"'/:@]*:)[^\s"'/@]+@/gi;
const AUTHORIZATION = /(?<scheme>\b(?:Bearer|Basic) )[A-Za-z0-9._~+/-]{8,}=*/g;

/** Blanks passwords in URLs and bearer tokens. */
export function blankSecrets(text: string): string {
  return text
    .replaceAll(URL_WITH_PASSWORD, `$<prefix>${SECRET_PLACEHOLDER}@`)
    .replaceAll(AUTHORIZATION, `$<scheme>${SECRET_PLACEHOLDER}`);
}
