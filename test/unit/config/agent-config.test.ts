/** Settings: precedence, problems all at once, and the texts that are generated from the table. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { parse } from 'yaml';

import { ConfigError } from '../../../src/base/errors.ts';
import { packageRoot } from '../../../src/base/package-root.ts';
import { resolveAgentConfig } from '../../../src/config/agent-config.ts';
import type { AgentConfigSources } from '../../../src/config/agent-config.ts';
import { parseConfigText } from '../../../src/config/config-file.ts';
import {
  renderConfigFile,
  renderConfigurationReference,
} from '../../../src/config/config-rendering.ts';
import { nearestKey } from '../../../src/config/nearest-key.ts';
import { AGENT_OPTIONS, FILE_OPTIONS } from '../../../src/config/options.ts';
import { TLS_CERTIFICATE_PEM } from '../../support/tls-fixture.ts';

const FUNCTION_ID = 'AAAAAAAA-bbbb-4ccc-8ddd-eeeeeeeeeeee';

function resolved(sources: Partial<AgentConfigSources> & { yaml?: string } = {}) {
  const { yaml, ...rest } = sources;
  return resolveAgentConfig({
    directory: '/endpoints/one',
    ...(yaml !== undefined && { file: parseConfigText(yaml, 'config.yaml') }),
    ...rest,
  });
}

function problemsOf(sources: Partial<AgentConfigSources> & { yaml?: string }) {
  try {
    resolved(sources);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    assert.equal(error.exitCode, 78);
    return error.problems;
  }
  assert.fail('no problem was found');
}

describe('settings of the agent', () => {
  it('are total and frozen without any source', () => {
    const { config, origins } = resolved();
    assert.equal(config.hubUrl, 'http://localhost:5000');
    assert.equal(config.heartbeatPeriodMs, 30_000);
    assert.equal(config.taskTimeoutMs, 0);
    assert.equal(config.workingDir, '/endpoints/one/tasks');
    const slots = config.javascriptThreads + config.pythonInterpreters;
    assert.equal(config.reserve, Math.max(512, 2 * slots));
    assert.ok(Object.isFrozen(config) && Object.isFrozen(config.environment));
    assert.ok(origins.every(({ source }) => source === 'default'));
  });

  it('hold the authorities to trust, and name a file that has none', () => {
    const directory = mkdtempSync(join(tmpdir(), 'outpost-ca-'));
    try {
      writeFileSync(join(directory, 'ca.pem'), `# ours\n${TLS_CERTIFICATE_PEM}`);
      writeFileSync(join(directory, 'empty.pem'), '');
      const { config } = resolved({ directory, yaml: 'ca_file: ca.pem\n' });
      assert.equal(config.ca?.trim(), TLS_CERTIFICATE_PEM.trim());
      assert.equal(resolved().config.ca, undefined);
      for (const [file, expected] of [
        ['empty.pem', /expected a file with certificates as PEM/],
        ['absent.pem', /expected there is no such file/],
      ] as const) {
        const [problem] = problemsOf({ directory, yaml: `ca_file: ${file}\n` });
        assert.equal(problem?.key, 'ca_file');
        assert.equal(problem.source, 'config.yaml:1');
        assert.equal(problem.value, join(directory, file));
        assert.match(problem.expected, expected);
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('come from flags before the environment before .env before config.yaml', () => {
    const yaml = 'reserve: 1\nmax_retries: 1\nkill_grace_s: 1\ndrain_grace_s: 1\n';
    const { config, origins } = resolved({
      yaml,
      dotenv: {
        path: '.env',
        values: { OUTPOST_MAX_RETRIES: '2', OUTPOST_KILL_GRACE_S: '2', OUTPOST_DRAIN_GRACE_S: '2' },
      },
      environment: { OUTPOST_KILL_GRACE_S: '3', OUTPOST_DRAIN_GRACE_S: '3' },
      flags: { drain_grace_s: '4.5' },
    });
    assert.deepEqual(
      [config.reserve, config.maxRetries, config.killGraceMs, config.drainGraceMs],
      [1, 2, 3000, 4500],
    );
    const sources = new Map(origins.map(({ key, source }) => [key, source]));
    assert.equal(sources.get('reserve'), 'config.yaml:1');
    assert.equal(sources.get('max_retries'), '.env OUTPOST_MAX_RETRIES');
    assert.equal(sources.get('kill_grace_s'), 'environment OUTPOST_KILL_GRACE_S');
    assert.equal(sources.get('drain_grace_s'), '--drain-grace-s');
  });

  it('treat an empty text and an empty YAML value as not set', () => {
    const { config } = resolved({
      yaml: 'display_name:\nreserve: 3\n',
      environment: { OUTPOST_RESERVE: '' },
    });
    assert.equal(config.displayName, undefined);
    assert.equal(config.reserve, 3);
  });

  it('report five mistakes of a file at once, each with its line', () => {
    const yaml = [
      'hub_ulr: https://hub.example.org',
      'javascript_threads: many',
      'heartbeat_period_s: 0',
      'allowed_functions: [not-an-id]',
      'hub_url: http://hub.example.org',
    ].join('\n');
    const problems = problemsOf({ yaml });
    assert.deepEqual(problems.map(({ key, source }) => `${key} ${source}`).sort(), [
      'allowed_functions config.yaml:4',
      'heartbeat_period_s config.yaml:3',
      'hub_ulr config.yaml:1',
      'hub_url config.yaml:5',
      'javascript_threads config.yaml:2',
    ]);
    const unknown = problems.find(({ key }) => key === 'hub_ulr');
    assert.match(unknown?.expected ?? '', /did you mean hub_url\?/);
  });

  it('name the line of what is not YAML', () => {
    const [problem] = problemsOf({ yaml: 'reserve: 1\n  max_retries: [\n' });
    assert.match(problem?.source ?? '', /^config\.yaml:\d+$/);
  });

  it('refuse a key that stands twice, a file that is no map, and aliases without end', () => {
    assert.equal(problemsOf({ yaml: 'reserve: 1\nreserve: 2\n' }).length, 1);
    assert.equal(problemsOf({ yaml: '- reserve\n' }).length, 1);
    const lol = 'display_name: &a [x, x, x, x, x, x, x, x, x, x]\n';
    const bomb = ['b', 'c', 'd', 'e'].reduce((text, name) => {
      const before = String.fromCharCode(name.charCodeAt(0) - 1);
      return `${text}${name}_: &${name} [${Array.from({ length: 10 }, () => `*${before}`).join(', ')}]\n`;
    }, lol);
    assert.ok(problemsOf({ yaml: bomb }).length > 0);
  });

  it('check variables of ours in .env for typing mistakes and leave others alone', () => {
    const values = { OUTPOST_CLIENT_SECRT: 'x', SOMETHING_ELSE: 'y' };
    const problems = problemsOf({ dotenv: { path: '/e/.env', values } });
    assert.equal(problems.length, 1);
    assert.match(problems[0]?.expected ?? '', /did you mean OUTPOST_CLIENT_SECRET\?/);
  });

  it('never repeat a password that stands in a URL, or a secret in the wrong place', () => {
    const yaml = 'hub_url: https://me:hunter2@hub.example.org\nclient_secret: hunter2\n';
    const problems = problemsOf({ yaml });
    assert.equal(problems.length, 2);
    assert.doesNotMatch(JSON.stringify(problems), /hunter2/);
  });

  it('accept plain http on loopback only', () => {
    for (const url of ['http://localhost:5000', 'http://127.0.0.9', 'http://[::1]:8/prefix/']) {
      assert.equal(resolved({ flags: { hub_url: url } }).config.hubUrl, url.replace(/\/$/, ''));
    }
    for (const url of ['http://localhost.example.org', 'http://10.0.0.1', 'ftp://localhost', 'x']) {
      assert.equal(problemsOf({ flags: { hub_url: url } }).length, 1, url);
    }
  });

  it('read numbers strictly', () => {
    for (const text of ['0x10', '1e3', '1.5', '-1', '1,000', 'NaN', ' ']) {
      assert.equal(problemsOf({ environment: { OUTPOST_RESERVE: text } }).length, 1, text);
    }
  });

  it('read lists and maps from YAML and from text', () => {
    const id = FUNCTION_ID.toLowerCase();
    const fromYaml = resolved({
      yaml: `allowed_functions:\n  - ${FUNCTION_ID}\nenvironment:\n  OMP_NUM_THREADS: 4\n`,
    }).config;
    assert.deepEqual(fromYaml.allowedFunctions, [id]);
    assert.deepEqual(fromYaml.environment, { OMP_NUM_THREADS: '4' });
    const fromText = resolved({
      environment: {
        OUTPOST_ALLOWED_FUNCTIONS: `${id}, ${FUNCTION_ID}`,
        OUTPOST_ENVIRONMENT: '{"A": "1,2"}',
      },
    }).config;
    assert.deepEqual(fromText.allowedFunctions, [id]);
    assert.deepEqual(fromText.environment, { A: '1,2' });
    assert.deepEqual(resolved({ flags: { environment: 'A=1,B=x=y' } }).config.environment, {
      A: '1',
      B: 'x=y',
    });
  });

  it('refuse an empty list of functions, which could mean nobody or everybody', () => {
    assert.equal(problemsOf({ yaml: 'allowed_functions: []\n' }).length, 1);
  });

  it('refuse an endpoint on which nothing could run, and an interpreter that is not there', () => {
    assert.equal(problemsOf({ yaml: 'javascript_threads: 0\npython_interpreters: 0\n' }).length, 1);
    assert.equal(problemsOf({ yaml: 'python: /no/such/python\n' }).length, 1);
    assert.equal(
      resolved({ yaml: 'python: python-that-is-not-installed\n' }).origins.length > 0,
      true,
    );
  });
});

describe('the table of options', () => {
  it('has unique keys and environment names that follow from them', () => {
    const keys = AGENT_OPTIONS.map(({ key }) => key);
    assert.equal(new Set(keys).size, keys.length);
    for (const { key, environment } of AGENT_OPTIONS) {
      assert.equal(environment, `OUTPOST_${key.toUpperCase()}`);
    }
  });

  it('reaches the resolved settings with every option', () => {
    const changed: Record<string, unknown> = {
      display_name: 'changed',
      hub_url: 'https://changed.example.org',
      python: process.execPath,
      environment: { CHANGED: '1' },
      working_dir: '/changed',
      allowed_functions: [FUNCTION_ID],
      allowed_serializers: ['JSONData', 'PureSourceDill'],
      log_level: 'trace',
      amqp_port: 1234,
      worker_host: 'unit',
      worker_memory_mb: 512,
      cleanup_schedule: '@daily',
      metrics_listen: '127.0.0.1:9464',
      environments: { allow: ['venv'] },
    };
    // Each of these alone is half a maintenance window.
    const together = ['drain_at', 'resume_at'];
    const window = { drain_at: '0 6 * * 1', resume_at: '0 8 * * 1' };
    assert.notEqual(
      JSON.stringify(resolved({ flags: window }).config),
      JSON.stringify(resolved({ flags: { ...window, resume_at: '0 9 * * 1' } }).config),
    );
    const plain = JSON.stringify(resolved().config);
    // The one that takes a file has a test of its own.
    for (const { key, type, default: standard } of FILE_OPTIONS.filter(
      (o) => o.key !== 'ca_file' && !together.includes(o.key),
    )) {
      const value =
        changed[key] ??
        (type.type === 'flag' ? String(standard !== true) : undefined) ??
        ('min' in type && type.min === standard
          ? type.min + 1
          : 'min' in type
            ? type.min
            : undefined);
      assert.notEqual(JSON.stringify(resolved({ flags: { [key]: value } }).config), plain, key);
    }
  });

  it('writes a config.yaml that reads back as it was given', () => {
    const settings = new Map<string, number | string | Record<string, string>>([
      ['display_name', 'a: "b" # c'],
      ['reserve', 0],
      ['environment', { A: '1', B: 'yes' }],
    ]);
    const text = renderConfigFile(settings);
    assert.deepEqual(parse(text), Object.fromEntries(settings));
    assert.deepEqual(resolved({ yaml: text }).config.environment, { A: '1', B: 'yes' });
    for (const { key } of FILE_OPTIONS) {
      assert.match(text, new RegExp(`^(# )?${key}:`, 'm'));
    }
  });

  it('writes defaults as comments that are valid when the comment sign is taken away', () => {
    const text = renderConfigFile(new Map());
    assert.equal(parse(text), null);
    const uncommented = text.replaceAll(/^# (?=[a-z_]+:( |$))/gm, '');
    resolved({ yaml: uncommented });
  });

  it('is what docs/configuration.md says', () => {
    const path = join(packageRoot(), 'docs', 'configuration.md');
    assert.equal(
      readFileSync(path, 'utf8'),
      renderConfigurationReference(),
      'write it anew with: agent config reference > docs/configuration.md',
    );
  });

  it('finds the key that was meant, across spellings, and none for nonsense', () => {
    const keys = FILE_OPTIONS.map(({ key }) => key);
    assert.equal(nearestKey('hubUrl', keys), 'hub_url');
    assert.equal(nearestKey('kill-grace-s', keys), 'kill_grace_s');
    assert.equal(nearestKey('heartbeat_period', keys), 'heartbeat_period_s');
    assert.equal(nearestKey('qwertyuiop', keys), undefined);
  });
});
