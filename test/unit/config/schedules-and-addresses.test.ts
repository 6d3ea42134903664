/** Schedules and addresses to listen on, as values of settings. */
import assert from 'node:assert/strict';

import { parseListenAddress } from '../../../src/config/listen-address.ts';
import { readOptionValue } from '../../../src/config/option-types.ts';

const CRON = { type: 'cron' } as const;
const LISTEN = { type: 'listen' } as const;

describe('a schedule', () => {
  it('is what node-cron takes', () => {
    for (const text of ['17 3 * * *', '*/5 8-18 * * mon-fri', '30 0 6 * * 1', '@daily']) {
      assert.deepEqual(readOptionValue(CRON, text), { value: text });
    }
  });

  it('is refused with the field that is wrong', () => {
    for (const raw of ['', '61 3 * * *', '3am', '* * *', 7, null]) {
      const reading = readOptionValue(CRON, raw);
      assert.ok('expected' in reading, String(raw));
      assert.match(reading.expected, /^a cron expression: minute, hour/);
    }
    const reading = readOptionValue(CRON, '61 3 * * *');
    assert.ok('expected' in reading && reading.expected.includes('61'), JSON.stringify(reading));
  });
});

describe('an address to listen on', () => {
  it('is on this machine, or a Unix socket', () => {
    for (const [text, address] of [
      ['127.0.0.1:9464', { host: '127.0.0.1', port: 9464 }],
      ['localhost:0', { host: 'localhost', port: 0 }],
      ['[::1]:80', { host: '::1', port: 80 }],
      ['/run/user/1000/outpost metrics', { path: '/run/user/1000/outpost metrics' }],
    ] as const) {
      assert.deepEqual(readOptionValue(LISTEN, text), { value: text });
      assert.deepEqual(parseListenAddress(text), address);
    }
  });

  it('is never one that another machine can reach', () => {
    for (const text of ['0.0.0.0:9464', '[::]:9464', 'login03.example.org:9464', '10.0.0.1:1']) {
      const reading = readOptionValue(LISTEN, text);
      assert.ok('expected' in reading, text);
      assert.match(reading.expected, /another machine could read it there$/);
    }
  });

  it('has a port, and a path that fits', () => {
    for (const raw of [
      '127.0.0.1',
      '127.0.0.1:65536',
      ':80',
      'run/socket',
      9464,
      `/${'x'.repeat(107)}`,
    ]) {
      assert.ok('expected' in readOptionValue(LISTEN, raw), String(raw));
    }
  });
});
