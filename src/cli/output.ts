/**
 * What commands print: text for people on stdout, one JSON document with `--json`, notes about progress on stderr.
 *
 * Colour only on a terminal and never with NO_COLOR; a table is plain text with two spaces between the columns, so that
 * `awk` and `cut` work on it.
 */
import { hasColors } from './terminal.ts';

/** A column of {@link printTable}. */
export interface TableColumn<Row> {
  readonly title: string;
  readonly value: (row: Row) => string;
  readonly align?: 'left' | 'right';
}

/** Prints one line on stdout. */
export function printLine(text = ''): void {
  process.stdout.write(`${text}\n`);
}

/** Prints a note for the person at the terminal on stderr, so that stdout stays what scripts read. */
export function printNote(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Prints one JSON document on stdout. */
export function printJson(document: unknown): void {
  // Control characters beyond ASCII are none that JSON escapes, and steer some terminals.
  const text = JSON.stringify(document, jsonValue, 2).replaceAll(/[\u007F-\u009F]/g, escaped);
  process.stdout.write(`${text}\n`);
}

/** Prints rows under the titles of their columns; the last column is not padded. */
export function printTable<Row>(rows: readonly Row[], columns: readonly TableColumn<Row>[]): void {
  const titles = columns.map((column) => column.title);
  const cells = rows.map((row) => columns.map((column) => oneLine(column.value(row))));
  const widths = titles.map((title, index) =>
    Math.max(title.length, ...cells.map((row) => (row[index] ?? '').length)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, index) => {
        const width = widths[index] ?? 0;
        const isLast = index === row.length - 1;
        if (columns[index]?.align === 'right') {
          return cell.padStart(width);
        }
        return isLast ? cell : cell.padEnd(width);
      })
      .join('  ');
  printLine(bold(line(titles)));
  for (const row of cells) {
    printLine(line(row));
  }
}

/** Prints names and values below each other, the values aligned, also those of several lines. Absent values are left out. */
export function printFields(fields: readonly (readonly [string, string | undefined])[]): void {
  const present = fields.filter((field): field is [string, string] => field[1] !== undefined);
  const width = Math.max(0, ...present.map(([name]) => name.length));
  for (const [name, value] of present) {
    const lines = value.trimEnd().split('\n').map(oneLine);
    const text = lines.join(`\n${' '.repeat(width + 3)}`);
    printLine(`${bold(`${name}:`)}${' '.repeat(width - name.length + 2)}${text}`);
  }
}

/** Bold on a terminal that wants colour, plain otherwise. */
export function bold(text: string): string {
  return hasColors(process.stdout) ? `\u001B[1m${text}\u001B[22m` : text;
}

/** A length of time as people say it: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 4 min`, `3 d 1 h`. */
export function durationText(durationMs: number): string {
  const seconds = Math.max(0, durationMs) / 1000;
  if (seconds < 10) {
    return `${seconds.toFixed(1)} s`;
  }
  const units: readonly (readonly [string, number])[] = [
    ['d', 86_400],
    ['h', 3600],
    ['min', 60],
    ['s', 1],
  ];
  let rest = Math.round(seconds);
  const parts: string[] = [];
  for (const [unit, size] of units) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0 || parts.length > 0) {
      parts.push(`${count} ${unit}`);
    }
    if (parts.length === 2) {
      break;
    }
  }
  return parts.filter((part) => !part.startsWith('0 ')).join(' ');
}

/** A point in time in the machine's own zone, to the second. */
export function timeText(epochMs: number): string {
  const date = new Date(epochMs);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join('-');
  return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')}`;
}

/** A size in bytes as people say it. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let index = 0;
  while (value >= 1024 && index < units.length - 1) {
    value /= 1024;
    index += 1;
  }
  return `${index === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${units[index] ?? 'B'}`;
}

// A line feed or an escape sequence in a name must not break the table or steer the terminal.
function oneLine(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is replaced
  return text.replaceAll(/[\u0000-\u001F\u007F-\u009F]/g, ' ');
}

function escaped(character: string): string {
  return `\\u00${character.charCodeAt(0).toString(16)}`;
}

function jsonValue(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}
