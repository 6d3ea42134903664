/**
 * What the terminal can do, and what it must not be given. The environment is read by src/config; Node's own check honours NO_COLOR
 * and TERM.
 */

/** Settings of colour and weight: harmless, and of no use without the rest. */
// eslint-disable-next-line no-control-regex -- control characters are what is replaced
const STYLE = /\u001B\[[\d;:]*m/g;

/** Control characters but tab and line feed. */
// eslint-disable-next-line no-control-regex -- control characters are what is replaced
const STEERING = /[\u0000-\u0008\u000B-\u001F\u007F-\u009F]/g;

/** Text of somebody else for a terminal: nothing in it can move the cursor, rename the window or answer in the user's place. */
export function harmlessText(text: string): string {
  return text.replaceAll('\r\n', '\n').replaceAll(STYLE, '').replaceAll(STEERING, ' ');
}

/** Whether a stream is a terminal that shows colour and wants it. */
export function hasColors(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY && stream.hasColors();
}
