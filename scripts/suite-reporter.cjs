/**
 * Mocha's spec reporter that also keeps a summary on disk for the suite runner, always up to date: what is known of a
 * suite that had to be killed is still counted. The titles of what passed are added at the end.
 */
'use strict';
const { writeFileSync } = require('node:fs');
const Mocha = require('mocha');

const {
  EVENT_RUN_BEGIN,
  EVENT_TEST_PASS,
  EVENT_TEST_FAIL,
  EVENT_TEST_PENDING,
  EVENT_TEST_BEGIN,
  EVENT_RUN_END,
} = Mocha.Runner.constants;

module.exports = class SuiteReporter extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    const { output } = options.reporterOptions;
    const summary = {
      passed: 0,
      failed: 0,
      skipped: 0,
      failures: [],
      files: [],
      running: undefined,
      ended: false,
    };
    const write = () => {
      writeFileSync(output, JSON.stringify(summary));
    };
    runner.on(EVENT_RUN_BEGIN, () => {
      const files = new Set();
      runner.suite.eachTest(({ file }) => files.add(file));
      summary.files = [...files];
      write();
    });
    runner.on(EVENT_TEST_BEGIN, (test) => {
      summary.running = test.fullTitle();
      write();
    });
    const titles = [];
    runner.on(EVENT_TEST_PASS, (test) => {
      summary.passed += 1;
      const [, file = ''] = /[/\\]test[/\\](.+)\.test\.js$/.exec(test.file ?? '') ?? [];
      titles.push({ file, title: test.title });
    });
    runner.on(EVENT_TEST_PENDING, () => {
      summary.skipped += 1;
    });
    runner.on(EVENT_TEST_FAIL, (test, error) => {
      summary.failed += 1;
      summary.failures.push({ title: test.fullTitle(), message: String(error?.message ?? error) });
      write();
    });
    runner.on(EVENT_RUN_END, () => {
      summary.running = undefined;
      summary.ended = true;
      summary.titles = titles;
      write();
    });
  }
};
