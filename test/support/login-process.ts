/** A program of its own that asks the kept login for a token, prints it, and ends. Arguments: URL of the hub, milliseconds by which its clock is ahead. */
import { systemClock } from '../../src/base/clock.ts';
import { COMPUTE_SCOPE } from '../../src/protocol/rest.ts';
import { DefaultLoginManager } from '../../src/sdk/login/index.ts';

const [hubUrl = '', aheadMs = '0'] = process.argv.slice(2);
const manager = new DefaultLoginManager({
  hubUrl,
  environment: { OUTPOST_HOME: process.env['OUTPOST_HOME'] },
  clock: { ...systemClock, now: () => systemClock.now() + Number(aheadMs) },
});
process.stdout.write(await manager.getAuthorizer(COMPUTE_SCOPE).accessToken());
