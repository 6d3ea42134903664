/** The hub as this machine sees it: the way there, what it says about itself, and how far its clock is from ours. */
import { tlsPeer } from '../../../transport/tls/certificate-refused.ts';
import { EXIT, failed, ok, skipped, warning } from './check.ts';
import type { Check, Finding } from './check.ts';
import { reachabilityChecks } from './reachability.ts';
import type { Server } from './reachability.ts';
import type { Subject } from './subject.ts';

const SETTINGS = ['hub_url', 'ca_file'] as const;
/** More than NTP ever leaves, and more than a reply that took long can explain. */
const SKEW_NOTICE_MS = 5_000;

function hubServer({ settings }: Subject): Server {
  const url = new URL(settings.config.hubUrl);
  const hasTls = url.protocol === 'https:';
  return { ...tlsPeer('the hub', url, hasTls ? 443 : 80), hasTls };
}

/** The checks. */
export const HUB_CHECKS: readonly Check[] = [
  ...reachabilityChecks({
    prefix: 'hub',
    settings: SETTINGS,
    addressFrom: 'hub_url',
    serverOf: hubServer,
  }),
  {
    name: 'hub-http',
    after: ['hub-tls'],
    settings: SETTINGS,
    remedy: 'Check that hub_url is the address of a hub, and look at its log',
    run: httpFinding,
  },
  {
    name: 'clock-skew',
    after: ['hub-http'],
    settings: SETTINGS,
    remedy: 'See: timedatectl',
    run: skewFinding,
  },
];

async function httpFinding(subject: Subject): Promise<Finding> {
  const { version, health, roundTripMs } = await subject.greeting();
  const { hubUrl } = subject.settings.config;
  if (typeof version !== 'string') {
    return failed(
      EXIT.tryAgain,
      `${hubUrl} answers, and not as a hub does`,
      'Check hub_url: perhaps it names a web server in front of the hub, or another program',
    );
  }
  const details = { version, health: health ?? null, round_trip_ms: Math.round(roundTripMs) };
  const status = health?.['status'];
  return status === undefined || status === 'ok'
    ? ok(
        `${hubUrl} is a hub (version ${version}) and answers in ${roundTripMs.toFixed(0)} ms`,
        details,
      )
    : warning(
        `the hub (version ${version}) says of itself that it is ${JSON.stringify(status)}: ${JSON.stringify(health?.['checks'])}`,
        'Tell its operator; agents wait until it is well again, and tasks go on',
        details,
      );
}

async function skewFinding(subject: Subject): Promise<Finding> {
  const { clockAheadMs } = await subject.greeting();
  if (clockAheadMs === undefined) {
    return skipped('the hub does not tell the time');
  }
  const seconds = Math.abs(clockAheadMs / 1000);
  const details = { hub_ahead_ms: Math.round(clockAheadMs) };
  return seconds * 1000 <= SKEW_NOTICE_MS
    ? ok(
        `the clocks of this machine and the hub agree (within ${Math.max(1, Math.ceil(seconds))} s)`,
        details,
      )
    : warning(
        `this machine’s clock is ${seconds.toFixed(0)} s ${clockAheadMs > 0 ? 'behind' : 'ahead of'} the hub’s: times in logs and task timelines do not fit together, and certificates may seem out of date`,
        'Have the clock that is wrong set by NTP; see: timedatectl',
        details,
      );
}
