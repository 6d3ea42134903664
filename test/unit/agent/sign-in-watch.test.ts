/** An agent notices that the login of its person has ended, and that there is another. */
import assert from 'node:assert/strict';
import { setImmediate as turnOfTheLoop } from 'node:timers/promises';

import { SignInWatch } from '../../../src/agent/sign-in-watch.ts';
import { AuthError, ConfigError, UnavailableError } from '../../../src/base/errors.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import { TurnedClock } from '../../support/turned-clock.ts';

const HOUR_MS = 3_600_000;

describe('the watch over a login', () => {
  let clock: TurnedClock;
  let watch: SignInWatch;
  /** What asking for a token, and what asking the hub, fails with. */
  let failures: { token?: Error; hub?: Error };
  let counts: { tokens: number; asked: number };
  let reports: (string | undefined)[];

  beforeEach(() => {
    clock = new TurnedClock();
    failures = {};
    counts = { tokens: 0, asked: 0 };
    reports = [];
    watch = new SignInWatch({
      tokens: {
        accessToken: async () => {
          counts.tokens += 1;
          return await outcome('token', failures.token);
        },
      },
      ask: async () => {
        counts.asked += 1;
        await outcome('answer', failures.hub);
      },
      onChange: (failure) => reports.push(failure),
      clock,
      logger: silentLogger,
    });
    watch.start();
  });

  async function outcome<T>(value: T, failure: Error | undefined): Promise<T> {
    await Promise.resolve();
    if (failure !== undefined) {
      throw failure;
    }
    return value;
  }

  it('asks for a token all the time, so that the login is renewed and never ends unused', async () => {
    while (clock.now() < HOUR_MS) {
      await clock.next();
    }
    assert.ok(counts.tokens >= 700, `${counts.tokens} looks`);
    // The hub is asked seldom: there may be a thousand agents.
    assert.ok(counts.asked >= 5 && counts.asked <= 7, `asked ${counts.asked} times`);
    assert.deepEqual(reports, []);
  });

  it('tells once why the login has ended, and when there is another that the hub takes', async () => {
    failures.token = new AuthError('TOKEN_REJECTED', 'Your login has ended. Type: agent login');
    await clock.next();
    // From then on there is none.
    failures.token = new AuthError('CREDENTIALS_MISSING', 'You are not signed in.');
    await clock.next();
    assert.deepEqual(reports, ['Your login has ended. Type: agent login']);
    delete failures.token;
    failures.hub = new UnavailableError('HUB_UNREACHABLE', 'the hub is away');
    await clock.next();
    assert.equal(reports.length, 1);
    delete failures.hub;
    await clock.next();
    assert.deepEqual(reports.slice(1), [undefined]);
  });

  it('finds out from the hub that a token is good for nothing any more', async () => {
    failures.hub = new AuthError('TOKEN_REJECTED', 'the hub does not take it');
    while (reports.length === 0) {
      await clock.next();
    }
    assert.deepEqual(reports, ['the hub does not take it']);
    assert.ok(clock.now() <= HOUR_MS / 4);
  });

  it('tells that the file of the logins cannot be used, and what is wrong now', async () => {
    failures.token = new ConfigError('others can read it; run: chmod 600');
    await clock.next();
    failures.token = new AuthError('TOKEN_REJECTED', 'the login of bob');
    await clock.next();
    assert.deepEqual(reports, ['others can read it; run: chmod 600', 'the login of bob']);
  });

  it('takes a hub that is away for no end of the login', async () => {
    failures.token = new UnavailableError('HUB_UNREACHABLE', 'the hub is away');
    await clock.next();
    assert.deepEqual(reports, []);
  });

  it('leaves nothing behind when it is stopped', async () => {
    await clock.next();
    watch.stop();
    await turnOfTheLoop();
    assert.ok(clock.isIdle);
  });
});
