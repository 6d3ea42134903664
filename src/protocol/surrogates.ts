/** UTF-16, as JavaScript counts, against Unicode code points, as the wire does. */

/** Whether a code point of two units begins at an index. */
export function isPairAt(text: string, index: number): boolean {
  const high = text.charCodeAt(index);
  if (high < 0xd800 || high > 0xdbff) {
    return false;
  }
  const low = text.charCodeAt(index + 1);
  return low >= 0xdc00 && low <= 0xdfff;
}
