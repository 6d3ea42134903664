/** Finding functions over HTTP: what is found, by whom, and in which order. */
import assert from 'node:assert/strict';

import { packBuffers } from '../../src/protocol/serialization.ts';
import { assertRefused, registerFunction, TestHub } from './hub-api-support.ts';
import type { Json, Person } from './hub-api-support.ts';

describe('search at the hub', function () {
  let hub: TestHub;
  let owner: Person;
  let member: Person;
  let stranger: Person;
  let group: string;
  const ids: Record<string, string> = {};

  before(async () => {
    hub = await TestHub.start();
    [owner, member, stranger] = [await hub.person(), await hub.person(), await hub.person()];
    group = String((await owner.call('POST', '/v2/groups', { name: 'lab' })).body['id']);
    await owner.call('POST', `/v2/groups/${group}`, { add: [{ identity_id: member.id }] });
    for (const [name, more] of Object.entries({
      simulate_wave: { description: 'Simulates the height of a wave', public: true },
      waveHeight: { description: 'From a buoy', group },
      private_wave: { description: 'Nobody else sees this wave' },
      hidden_wave: { description: 'A wave that no search finds', public: true, searchable: false },
      'numpy.linalg.norm': { description: 'Größe eines Vektors', public: true },
    })) {
      ids[name] = await registerFunction(owner, { function_name: name, ...more });
    }
  });
  after(async () => {
    await hub.stop();
  });

  async function search(person: Person, query: Record<string, string | number>): Promise<Json> {
    const text = new URLSearchParams(
      Object.entries(query).map(([name, value]): [string, string] => [name, String(value)]),
    );
    const { status, body } = await person.call('GET', `/v1/functions/search?${text.toString()}`);
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  }

  async function found(person: Person, q: string, more: Json = {}): Promise<string[]> {
    const { results } = await search(person, { q, ...(more as Record<string, string>) });
    return (results as Json[]).map((result) => String(result['function_name'])).sort();
  }

  it('finds own, shared and public functions, and no others', async () => {
    assert.deepEqual(await found(owner, 'wave'), ['private_wave', 'simulate_wave', 'waveHeight']);
    assert.deepEqual(await found(member, 'wave'), ['simulate_wave', 'waveHeight']);
    assert.deepEqual(await found(stranger, 'wave'), ['simulate_wave']);
    const moved = String(ids['private_wave']);
    await owner.call('POST', `/v1/functions/${moved}/share`, { group });
    assert.equal((await found(member, 'wave')).length, 3);
    await owner.call('POST', `/v1/functions/${moved}/unshare`, { group });
    assert.equal((await found(member, 'wave')).length, 2);
    await owner.call('POST', `/v2/groups/${group}`, { remove: [{ identity_id: member.id }] });
    assert.deepEqual(await found(member, 'wave'), ['simulate_wave']);
    await owner.call('POST', `/v2/groups/${group}`, { add: [{ identity_id: member.id }] });
  });

  it('finds words by their stems, parts of names, and a word that is just begun', async () => {
    for (const q of ['simulate', 'simulation', 'SIMULATING', 'simul', 'the waves', 'wave heigh']) {
      assert.ok((await found(owner, q)).includes('simulate_wave'), q);
    }
    assert.deepEqual(await found(member, 'height buoy'), ['waveHeight']);
    assert.deepEqual(await found(owner, 'waveheight'), ['waveHeight']);
    assert.deepEqual(await found(stranger, 'linalg'), ['numpy.linalg.norm']);
    assert.deepEqual(await found(stranger, 'numpy.linalg'), ['numpy.linalg.norm']);
    assert.deepEqual(await found(stranger, 'größe'), ['numpy.linalg.norm']);
    assert.deepEqual(await found(owner, 'wave linalg'), [], 'every word must be there');
  });

  it('finds what the text of a function says about itself', async () => {
    const python = 'def f(x):\n    """Integrates an oscillator."""\n    return x\n';
    const script = '/**\n * Renders a histogram.\n */\nfunction g(x) { return x; }';
    const code = {
      f: packBuffers([`st\nf:${python}`]),
      g: packBuffers([`js\n${script}`]),
    };
    for (const [name, packed] of Object.entries(code)) {
      await registerFunction(owner, { function_name: name, function_code: packed });
    }
    await registerFunction(owner, { function_name: 'old', function_source: python });
    assert.deepEqual(await found(owner, 'oscillator'), ['f', 'old']);
    assert.deepEqual(await found(owner, 'histogram'), ['g']);
  });

  it('ranks names above descriptions, and the very name first', async () => {
    const person = await hub.person();
    for (const [name, description] of [
      ['helper', 'used by spectrum'],
      ['plot_spectrum', 'plots'],
      ['spectrum', 'x'],
      ['spectrum_of_spectrum', 'spectrum of a spectrum'],
    ]) {
      await registerFunction(person, { function_name: name, description });
    }
    const { results } = await search(person, { q: 'spectrum' });
    const names = (results as Json[]).map((result) => result['function_name']);
    assert.equal(names[0], 'spectrum');
    assert.equal(names.at(-1), 'helper');
  });

  it('pages, with a total', async () => {
    const person = await hub.person();
    const all = [];
    for (let index = 0; index < 7; index += 1) {
      all.push(await registerFunction(person, { function_name: `page_${index}` }));
    }
    const pages: unknown[] = [];
    for (let offset = 0; offset < 9; offset += 3) {
      const page = await search(person, { q: 'page', offset, limit: 3 });
      assert.equal(page['total'], 7);
      assert.equal(page['has_next_page'], offset + 3 < 7);
      assert.equal(page['count'], (page['results'] as Json[]).length);
      pages.push(...(page['results'] as Json[]).map((result) => result['function_uuid']));
    }
    assert.deepEqual(pages.toSorted(), all.toSorted());
    const beyond = await search(person, { q: 'page', offset: 100 });
    assert.deepEqual([beyond['total'], beyond['results']], [7, []]);
    assert.equal((await search(person, { q: 'page' }))['limit'], 10);
    assert.equal((await search(person, { q: 'page', limit: 99999 }))['limit'], 100);
  });

  it('lists without a word, and the own ones also when no search finds them', async () => {
    const person = await hub.person();
    const names = ['first', 'second'];
    for (const name of names) {
      await registerFunction(person, { function_name: name, searchable: false });
    }
    assert.deepEqual(await found(person, '', { role: 'owner' }), names);
    assert.deepEqual(await found(person, ' !? ', { role: 'owner' }), names);
    assert.ok((await found(person, '')).includes('simulate_wave'));
    assert.ok(!(await found(person, '')).includes('first'));
  });

  it('tells whose a function is, but not its code', async () => {
    const { results } = await search(stranger, { q: 'simulate_wave' });
    const [{ score, created_at: createdAt, ...rest } = {}] = results as Json[];
    assert.ok(Number(score) > 0 && !Number.isNaN(Date.parse(String(createdAt))));
    assert.deepEqual(rest, {
      function_uuid: ids['simulate_wave'],
      function_name: 'simulate_wave',
      description: 'Simulates the height of a wave',
      owner: owner.id,
      author: `${owner.id}@clients.outpost`,
      public: true,
      container_uuid: null,
    });
  });

  // A page of long ones would be larger than any memory.
  it('tells as much of a description as it searches', async () => {
    const description = `Verbose${' text'.repeat(5000)}`;
    const id = await registerFunction(owner, { function_name: 'verbose', description });
    const { results } = await search(owner, { q: 'verbose' });
    const [result] = results as Json[];
    assert.equal(String(result?.['description']), description.slice(0, 10_000));
    const { body } = await owner.call('GET', `/v2/functions/${id}`);
    assert.equal(body['description'], description);
    await owner.call('DELETE', `/v2/functions/${id}`);
  });

  it('takes whatever people type', async () => {
    for (const q of [
      `it's`,
      `'`,
      '\\',
      'a & | !',
      ':*',
      'x:*',
      '<->',
      '((',
      '%',
      '—',
      'the',
      'x'.repeat(900),
    ]) {
      await search(stranger, { q });
    }
    for (const query of ['limit=ten', 'offset=-1', `q=${'x'.repeat(1001)}`, 'role=king', 'q=%00']) {
      const answer = await stranger.call('GET', `/v1/functions/search?${query}`);
      if (answer.status !== 200) {
        assertRefused(answer, 422, 'SEMANTICALLY_INVALID');
      }
    }
    await registerFunction(owner, {
      description: 'long '.repeat(20_000),
      function_name: 'y'.repeat(256),
    });
    assert.equal((await found(owner, 'y'.repeat(64))).length, 1);
  });

  it('forgets deleted functions', async () => {
    const id = await registerFunction(owner, { function_name: 'ephemeral' });
    assert.deepEqual(await found(owner, 'ephemeral'), ['ephemeral']);
    await owner.call('DELETE', `/v2/functions/${id}`);
    assert.deepEqual(await found(owner, 'ephemeral'), []);
  });
});
