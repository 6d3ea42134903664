/** `mode.json` in the directory of an endpoint: whether it takes tasks, as somebody has asked for (src/agent/agent-mode.ts). */
import { join } from 'node:path';

import { decodeModeRecord, encodeModeRecord } from '../../agent/agent-mode.ts';
import type { ModeRecord } from '../../agent/agent-mode.ts';
import { readTextFile } from '../../config/config-sources.ts';
import { replaceFile } from '../../config/endpoint-directory.ts';
import type { EndpointDirectory } from '../../config/endpoint-directory.ts';

/** What was asked for last; undefined when nobody has asked for anything, or the file is damaged: the endpoint takes tasks then. */
export function readMode(directory: EndpointDirectory): ModeRecord | undefined {
  const text = readTextFile(modePath(directory));
  return text === undefined ? undefined : decodeModeRecord(text);
}

/** Keeps what was asked for: on disk before this resolves, and never half of it. */
export async function writeMode(directory: EndpointDirectory, record: ModeRecord): Promise<void> {
  await replaceFile(modePath(directory), encodeModeRecord(record));
}

function modePath({ path }: EndpointDirectory): string {
  return join(path, 'mode.json');
}
