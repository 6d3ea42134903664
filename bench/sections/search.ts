/**
 * Searching over 100,000 functions, over HTTP: a tenth of them is the caller's own, some are shared with one of five groups, some are
 * public, and most belong to others and must not be seen. Queries are what people type: one to three words of different frequency, a
 * word that is just begun, and now and then one that half of all functions have.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import pg from 'pg';

import type { Report } from '../report.ts';
import { quantile, round } from '../statistics.ts';
import type { BenchContext } from './context.ts';

const FUNCTIONS = 100_000;
const QUERIES = 500;
const WARM_UP = 20;
const GROUPS = 5;
const WORDS = 2_000;

/** Marks what this section made, so that it can be taken away. */
const MARK = 'bench search';

/** Measures queries, one at a time. */
export async function measureSearch(context: BenchContext): Promise<NonNullable<Report['search']>> {
  const { site, say } = context;
  await site.useHub(true);
  const db = new pg.Client({
    connectionString: site.stack.environment['OUTPOST_DATABASE_URL'] ?? '',
  });
  await db.connect();
  try {
    say(`search: inserting ${FUNCTIONS} functions`);
    await insertFunctions(db, site.stack.client.id);
    const latenciesMs = await search(site.stack.hubUrl, await token(context));
    const found = {
      functions: FUNCTIONS,
      p50Ms: round(quantile(latenciesMs, 0.5), 1),
      p99Ms: round(quantile(latenciesMs, 0.99), 1),
    };
    say(`search: p50 ${found.p50Ms} ms, p99 ${found.p99Ms} ms`);
    return found;
  } finally {
    await db.query('delete from functions where meta = $1', [JSON.stringify({ mark: MARK })]);
    await db.query('delete from groups where description = $1', [MARK]);
    await db.end();
  }
}

/** Reproducible, and with the frequencies of a language: half of all words are among the first forty. */
function* wordSource(seed: number): Generator<string, never> {
  let state = seed;
  for (;;) {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    const share = state / 2 ** 32;
    yield wordOf(Math.floor(WORDS ** share));
  }
}

function wordOf(index: number): string {
  const syllables = ['ka', 'lo', 'mi', 'nu', 're', 'sto', 'ti', 'vex', 'wan', 'zor'];
  return Array.from(String(index).padStart(4, '0'), (digit) => syllables[Number(digit)]).join('');
}

async function insertFunctions(db: pg.Client, callerId: string): Promise<void> {
  const groups = Array.from({ length: GROUPS }, () => randomUUID());
  for (const id of groups) {
    await db.query('insert into groups (id, name, description) values ($1, $2, $3)', [
      id,
      'bench',
      MARK,
    ]);
    await db.query('insert into group_members (group_id, identity_id, role) values ($1, $2, $3)', [
      id,
      callerId,
      'member',
    ]);
  }
  const strangers = Array.from({ length: 50 }, () => randomUUID());
  const words = wordSource(1);
  const some = (count: number, separator: string): string =>
    Array.from({ length: count }, () => words.next().value).join(separator);
  const batch = 5_000;
  for (let start = 0; start < FUNCTIONS; start += batch) {
    const rows = Array.from({ length: batch }, (_, offset) => {
      const index = start + offset;
      return {
        id: randomUUID(),
        owner_id: index % 10 === 0 ? callerId : strangers[index % strangers.length],
        name: some(2, '_'),
        description: `function that ${some(12, ' ')}`,
        public: index % 5 === 1,
        shared_with: index % 10 === 3 ? [groups[index % GROUPS]] : [],
      };
    });
    await db.query(
      `insert into functions (id, owner_id, name, code, description, public, shared_with, meta)
       select (r->>'id')::uuid, (r->>'owner_id')::uuid, r->>'name', '5\nst\nf:', r->>'description', (r->>'public')::boolean,
         array(select jsonb_array_elements_text(r->'shared_with'))::uuid[], $2::jsonb
       from jsonb_array_elements($1::jsonb) as r`,
      [JSON.stringify(rows), JSON.stringify({ mark: MARK })],
    );
  }
  await db.query('analyze functions');
}

async function token({ site }: BenchContext): Promise<string> {
  const { id, secret } = site.stack.client;
  const reply = await fetch(`${site.stack.hubUrl}/v2/oauth2/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  });
  return ((await reply.json()) as { access_token: string }).access_token;
}

function* queries(): Generator<string, never> {
  const words = wordSource(7);
  for (let index = 0; ; index += 1) {
    const [first, second, third] = [words.next().value, words.next().value, words.next().value];
    switch (index % 10) {
      case 0:
        yield 'function';
        break;
      case 1:
      case 2:
        yield first.slice(0, 5);
        break;
      case 3:
      case 4:
      case 5:
        yield first;
        break;
      case 6:
        yield `${first} ${second} ${third}`;
        break;
      default:
        yield `${first} ${second}`;
    }
  }
}

async function search(hubUrl: string, accessToken: string): Promise<number[]> {
  const source = queries();
  const latenciesMs: number[] = [];
  let foundCount = 0;
  for (let index = 0; index < WARM_UP + QUERIES; index += 1) {
    const q = new URLSearchParams({ q: source.next().value, limit: '10' });
    const begunMs = performance.now();
    const reply = await fetch(`${hubUrl}/v1/functions/search?${q.toString()}`, {
      headers: { authorization: `Bearer ${accessToken}` },
    });
    const { total } = (await reply.json()) as { total: number };
    if (index >= WARM_UP) {
      latenciesMs.push(performance.now() - begunMs);
      foundCount += total > 0 ? 1 : 0;
    }
  }
  assert.ok(foundCount > QUERIES / 2, `only ${foundCount} of ${QUERIES} queries found something`);
  return latenciesMs;
}
