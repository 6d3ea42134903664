/**
 * The block of an endpoint in a crontab. What stands between its two marks is ours; everything else is left as it is.
 *
 * A home that several hosts share has a crontab on each of them, and endpoints of the same name in another OUTPOST_HOME have another
 * block.
 */

/** Whose block. */
export interface CrontabOwner {
  readonly name: string;
  readonly home: string;
}

/** The crontab with this block at its end, in place of the one that it had. */
export function withCrontabBlock(
  crontab: string,
  owner: CrontabOwner,
  lines: readonly string[],
): string {
  const rest = withoutCrontabBlock(crontab, owner);
  const gap = rest === '' || rest.endsWith('\n') ? '' : '\n';
  return `${rest}${gap}${[mark('begin', owner), ...lines, mark('end', owner)].join('\n')}\n`;
}

/** The crontab without the block. */
export function withoutCrontabBlock(crontab: string, owner: CrontabOwner): string {
  const lines = crontab.split('\n');
  const begin = lines.indexOf(mark('begin', owner));
  const end = lines.indexOf(mark('end', owner), begin);
  if (begin === -1 || end === -1) {
    return crontab;
  }
  lines.splice(begin, end - begin + 1);
  return lines.join('\n');
}

/** Whether the crontab has a block of this endpoint. */
export function hasCrontabBlock(crontab: string, owner: CrontabOwner): boolean {
  return withoutCrontabBlock(crontab, owner) !== crontab;
}

/** A command line as a crontab needs it: quoted for sh, with what cron itself would read as the end of the line hidden from it. */
export function crontabCommand(words: readonly string[]): string {
  return words
    .map((word) =>
      /^[A-Za-z0-9_./:=@+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`,
    )
    .join(' ')
    .replaceAll('%', '\\%');
}

function mark(which: 'begin' | 'end', { name, home }: CrontabOwner): string {
  const place = `outpost agent ${name} in ${home}`;
  return which === 'begin'
    ? `# >>> ${place}: written by agent enable-on-boot, removed by agent disable-on-boot >>>`
    : `# <<< ${place} <<<`;
}
