/** The mount that a path lies on, as the kernel lists them (proc_pid_mountinfo(5)). */
import { readFile } from 'node:fs/promises';

/** A mount. */
export interface Mount {
  readonly point: string;
  readonly type: string;
  /** `ro` or `rw` first. */
  readonly options: readonly string[];
}

/** The mount of an absolute path without symbolic links; undefined where there is no list of them. */
export async function mountOf(path: string): Promise<Mount | undefined> {
  let text: string;
  try {
    text = await readFile('/proc/self/mountinfo', 'utf8');
  } catch {
    // No /proc here: nothing is known, which is what undefined says.
    return undefined;
  }
  return findMount(text, path);
}

/** As {@link mountOf}, from the text of the list. */
export function findMount(mountinfo: string, path: string): Mount | undefined {
  let best: Mount | undefined;
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const [, , , , point, options] = before.split(' ');
    const [type] = after.split(' ');
    if (point === undefined || options === undefined || type === undefined || type === '') {
      continue;
    }
    const mount = { point: unescaped(point), type, options: options.split(',') };
    const isAbove =
      mount.point === '/' || path === mount.point || path.startsWith(`${mount.point}/`);
    // Of two at one place the later one hides the earlier.
    if (isAbove && (best === undefined || mount.point.length >= best.point.length)) {
      best = mount;
    }
  }
  return best;
}

function unescaped(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}
