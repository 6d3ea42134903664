import assert from 'node:assert/strict';

import { AuthError } from '../../../src/base/errors.ts';
import { Client } from '../../../src/sdk/client.ts';
import type { LoginManager } from '../../../src/sdk/login/index.ts';

const tokens = { accessToken: async (): Promise<string> => await Promise.resolve('token') };

/** Answers with a value of 300 characters for every task that is asked for, once it may. */
function hubOfTasks(mayAnswer: (ids: readonly string[]) => Promise<void>): typeof fetch {
  return async (_url, init) => {
    const { task_ids: ids } = JSON.parse(init?.body as string) as { task_ids: string[] };
    await mayAnswer(ids);
    const result = `11\n${JSON.stringify('x'.repeat(300))}`;
    const results = ids.map((id) => [id, { task_id: id, status: 'success', result }]);
    return Response.json({ results: Object.fromEntries(results) as unknown });
  };
}

describe('a client', () => {
  it('tells of tasks that had ended although their place was taken while it asked for others', async () => {
    let letAnswer: (() => void) | undefined;
    const held = new Promise<void>((resolve) => {
      letAnswer = resolve;
    });
    const client = new Client({
      hubUrl: 'http://localhost:1',
      tokens,
      environment: {},
      resultCacheBytes: 1500,
      fetch: hubOfTasks(async (ids) => {
        await (ids.includes('second') ? held : Promise.resolve());
      }),
    });
    await client.getBatchResult(['first']);
    const both = client.getBatchResult(['first', 'second']);
    await client.getBatchResult(['third', 'fourth']);
    letAnswer?.();
    for (const [id, record] of await both) {
      assert.equal(record.status, 'success', id);
    }
  });

  it('signs in at the next request when its login manager threw at the first', async () => {
    let attempts = 0;
    const loginManager: LoginManager = {
      // As one that is written without async does.
      // eslint-disable-next-line @typescript-eslint/promise-function-async
      ensureLoggedIn: () => {
        attempts += 1;
        if (attempts === 1) {
          throw new AuthError('TOKEN_REJECTED', 'not now');
        }
        return Promise.resolve();
      },
      logout: async () => {
        await Promise.resolve();
      },
      getAuthorizer: () => tokens,
    };
    const fetch = hubOfTasks(async () => {
      await Promise.resolve();
    });
    const client = new Client({
      hubUrl: 'http://localhost:1',
      loginManager,
      environment: {},
      fetch,
    });
    await assert.rejects(client.getBatchResult(['a']), { message: 'not now' });
    assert.equal((await client.getBatchResult(['a'])).get('a')?.status, 'success');
  });

  it('names as many members at a time as a hub takes', async () => {
    const asked: number[] = [];
    const fetch = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
      await Promise.resolve();
      const names = new URL(input).searchParams.get('usernames')?.split(',');
      if (names !== undefined) {
        asked.push(names.length);
        return Response.json({
          identities: names.map((username) => ({ id: `id of ${username}`, username })),
        });
      }
      const { add } = JSON.parse(init?.body as string) as { add: { identity_id: string }[] };
      asked.push(add.length);
      const refused = add.filter(({ identity_id: id }) => id === 'id of u249');
      return Response.json({ errors: { add: refused.map((one) => ({ ...one, detail: 'no' })) } });
    };
    const client = new Client({
      hubUrl: 'http://localhost:1',
      tokens,
      environment: {},
      throttlingEnabled: false,
      fetch,
    });
    const everybody = Array.from({ length: 250 }, (_, index) => `u${index}`);
    await assert.rejects(client.addGroupMembers('group', everybody), /id of u249 \(no\)/);
    assert.deepEqual(asked, [100, 100, 50, 200, 50]);
  });
});
