/**
 * Takes out of text what a stranger must not see, for the archive that `agent doctor --bundle` writes: the secrets that are known here,
 * credentials by their form, and what functions printed or raised.
 *
 * Rather too much than too little: a long random text is taken out although it may be only a checksum. Ids (UUIDs) stay, because a
 * report is of no use without them.
 */
import { SECRET_PLACEHOLDER, blankSecrets } from '../../../base/blank-secrets.ts';

/** Shorter values are words that stand everywhere. */
const KNOWN_CHARS_MIN = 6;
/** No name, host or id is so long without a separator; tokens and base64 are. */
const LONG_RANDOM = /[A-Za-z0-9+/_=-]{40,}/g;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const JSON_WEB_TOKEN = /\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*/g;
/** What a worker said before it died may be what a function printed. */
const SAID = /(?<before>\bit said: ).*/gs;
/** Fields of the log that carry text of others, or may. */
const WITHHELD_FIELDS: ReadonlySet<string> = new Set([
  'stdout',
  'stderr',
  'output',
  'body',
  'args',
  'kwargs',
  'arguments',
  'result',
  'data',
  'exception',
  'traceback',
]);

/** Takes secrets out of texts and documents. */
export class Redaction {
  readonly #known: readonly string[];

  /** `known` are secrets to be found wherever they stand. */
  constructor(known: readonly string[]) {
    const long = known.filter((text) => text.length >= KNOWN_CHARS_MIN);
    const forms = long.flatMap((text) => [
      text,
      encodeURIComponent(text),
      Buffer.from(text).toString('base64'),
      JSON.stringify(text).slice(1, -1),
    ]);
    // The longest first: one may be the beginning of another.
    this.#known = [...new Set(forms)].sort((a, b) => b.length - a.length);
  }

  /** The text without secrets. */
  text(text: string): string {
    let clean = text;
    for (const secret of this.#known) {
      clean = clean.replaceAll(secret, SECRET_PLACEHOLDER);
    }
    return blankSecrets(clean)
      .replaceAll(SAID, `$<before>[left out]`)
      .replaceAll(JSON_WEB_TOKEN, SECRET_PLACEHOLDER)
      .replaceAll(LONG_RANDOM, (found) => (isHarmless(found) ? found : SECRET_PLACEHOLDER));
  }

  /** The document with every text in it redacted, keys included, and without fields that hold what functions said. */
  document(value: unknown): unknown {
    if (typeof value === 'string') {
      return this.text(value);
    }
    if (Array.isArray(value)) {
      return value.map((item) => this.document(item));
    }
    if (typeof value === 'object' && value !== null) {
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [
          this.text(key),
          WITHHELD_FIELDS.has(key) && (typeof item === 'string' || Array.isArray(item))
            ? '[left out]'
            : this.document(item),
        ]),
      );
    }
    return value;
  }

  /** A line of a log: of an entry each field, of anything else the text. */
  line(line: string): string {
    let entry: unknown;
    try {
      entry = JSON.parse(line);
    } catch {
      // What a crash wrote, in the words of the runtime.
      return this.text(line);
    }
    return JSON.stringify(this.document(entry));
  }
}

/** Paths, and words that are joined, have separators; an id does not stand for anything secret. */
function isHarmless(text: string): boolean {
  const parts = text.split(/[/]/);
  return parts.every(
    (part) => part.length < 40 || UUID.test(part) || /^[a-z]+(?:[-_][a-z]+)+$/.test(part),
  );
}
