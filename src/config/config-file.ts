/** The values of config.yaml, with line numbers for messages. Apart from config-sources.ts, since few commands need what reads YAML. */
import { LineCounter, isMap, isNode, isScalar, parseDocument } from 'yaml';

import { errorText } from '../base/errors.ts';
import { readTextFile } from './config-sources.ts';
import type { SourceReading, SourcedValue } from './config-sources.ts';

/** Reads a YAML file of settings. `undefined` when there is no such file. */
export function readConfigFile(path: string): SourceReading | undefined {
  const text = readTextFile(path);
  return text === undefined ? undefined : parseConfigText(text, path);
}

/** Reads the text of a YAML file of settings; `path` is for messages. */
export function parseConfigText(text: string, path: string): SourceReading {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number): string => `${path}:${lines.linePos(offset).line}`;
  const problems = document.errors.map((error) => ({
    key: 'config.yaml',
    source: at(error.pos[0]),
    expected: `valid YAML; ${error.message}`,
  }));
  const values = new Map<string, SourcedValue>();
  const root = document.contents;
  if (problems.length > 0 || root === null || (isScalar(root) && root.value === null)) {
    return { values, problems };
  }
  if (!isMap(root)) {
    const expected = 'a map of settings, one `key: value` a line';
    return { values, problems: [{ key: 'config.yaml', source: path, expected }] };
  }
  for (const pair of root.items) {
    const key = isScalar(pair.key) ? String(pair.key.value) : 'a key that is no text';
    const offset = isScalar(pair.key) ? pair.key.range[0] : 0;
    const source = at(offset);
    try {
      values.set(key, { raw: isNode(pair.value) ? pair.value.toJS(document) : null, source });
    } catch (error) {
      // Aliases that multiply without end are the one thing that parses and has no value.
      problems.push({ key, source, expected: `a plain value; ${errorText(error)}` });
    }
  }
  return { values, problems };
}
