/**
 * Runs suites one after the other, with RabbitMQ and PostgreSQL started once for those that need them.
 *
 *   node scripts/run-suites.mjs PLAN.json
 *
 * Called by test.mjs, inside the network namespace. The plan names the suites; the results are written to the file that it names.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { ROOT } from './bootstrap.mjs';
import { failedTally, killRunningSuites, runSuite, SUITES } from './suites.mjs';

const plan = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const suites = SUITES.filter(({ name }) => plan.suites.includes(name));

async function startServices() {
  try {
    const module = await import(join(ROOT, 'build/test/support/services.js'));
    return { services: await module.startServices() };
  } catch (error) {
    return { problem: `RabbitMQ and PostgreSQL could not be started: ${error.stack ?? error}` };
  }
}

// They take six seconds to start, which the suites before them fill.
const starting = suites.some(({ services }) => services) ? startServices() : undefined;

// A terminal's Ctrl-C arrives twice: from the terminal, and from our parent, who was told as well.
let isEnding = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, async () => {
    if (isEnding) {
      return;
    }
    isEnding = true;
    killRunningSuites();
    await (await starting)?.services?.stop();
    process.exit(130);
  });
}

const results = [];
for (const suite of suites) {
  const blocked = plan.blocked[suite.name];
  const { services, problem } = (suite.services ? await starting : undefined) ?? {};
  console.log(`\n━━ ${suite.name} ━━`);
  if (blocked !== undefined || problem !== undefined) {
    console.log(blocked ?? problem);
    results.push(failedTally(suite.name, blocked ?? problem));
  } else {
    const specs = plan.specs[suite.name];
    const environment = { ...plan.environment, ...services?.environment };
    results.push(await runSuite(suite, { environment, specs, mochaArgs: plan.mochaArgs }));
  }
  writeFileSync(plan.output, JSON.stringify(results));
}
await (await starting)?.services?.stop();
