/** The file system that a journal lies on: its name, its room, and whether a sync there is another machine's promise. */
import { statfs } from 'node:fs/promises';

/** By the type that statfs(2) tells. On these a sync can be slow, or an outage elsewhere can stop it. */
const NETWORK_FILE_SYSTEMS = new Map<number, string>([
  [0x6969, 'NFS'],
  [0x0bd00bd0, 'Lustre'],
  [0x47504653, 'GPFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x00c36400, 'CephFS'],
  [0x5346414f, 'AFS'],
  [0x19830326, 'BeeGFS'],
]);

/** What is known of a file system. */
export interface FileSystem {
  /** Its name when it is a network file system. */
  readonly network: string | undefined;
  /** Bytes that this user can still write. */
  readonly freeBytes: number;
}

/** Looks at the file system of a directory. */
export async function fileSystemOf(directory: string): Promise<FileSystem> {
  const { type, bavail, bsize } = await statfs(directory);
  return { network: networkFileSystem(type), freeBytes: bavail * bsize };
}

/** Name of a network file system by its type; undefined for others. */
export function networkFileSystem(type: number): string | undefined {
  return NETWORK_FILE_SYSTEMS.get(type >>> 0);
}

/** What to tell about a journal there. */
export function fileSystemNotices({ network }: Pick<FileSystem, 'network'>): string[] {
  return network === undefined
    ? []
    : [
        `the task journal lies on a network file system (${network}): every task waits for its sync, and an outage of the server stops the intake; set OUTPOST_HOME to a local disk if this host has one`,
      ];
}
