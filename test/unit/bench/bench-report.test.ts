/** What the bench makes of its measurements: statistics, the table and its verdicts, profiles as categories and as a picture. */
import assert from 'node:assert/strict';

import { callTree } from '../../../bench/cpu-profile.ts';
import { flameGraph } from '../../../bench/flame-graph.ts';
import { readOptions } from '../../../bench/options.ts';
import { summarize } from '../../../bench/profile-summary.ts';
import type { Report, Throughput } from '../../../bench/report.ts';
import { median, quantile } from '../../../bench/statistics.ts';
import { markdownTable, rows, terminalTable } from '../../../bench/table.ts';

const CONDITIONS: Report['conditions'] = {
  cpu: 'a processor',
  cores: 2,
  memoryGb: 24,
  platform: 'Debian',
  node: '20.20.2',
  rabbitmq: '3.10.8',
  postgresql: '15.18',
  date: '2026-01-02',
  load: { before: 0.1, after: 1 },
  tasks: 10_000,
  runs: 3,
  seconds: 900,
};

function throughput(ratioToEcho: number, latencyToEcho = 2): Throughput {
  return {
    tasksPerSecond: 1000,
    idleP50Ms: 1,
    idleP99Ms: 2,
    ratioToEcho,
    latencyToEcho,
    runs: [1000],
  };
}

/** A profile in which each of these call paths, outermost first, was seen for 100 µs. */
function profileOf(
  ...paths: readonly (readonly [string, string])[][]
): Parameters<typeof callTree>[0] {
  const nodes = [
    {
      id: 1,
      callFrame: { functionName: '(root)', url: '', lineNumber: -1 },
      children: [] as number[],
    },
  ];
  const samples: number[] = [];
  for (const path of paths) {
    let parent = nodes[0];
    for (const [functionName, url] of path) {
      const id = nodes.length + 1;
      const node = {
        id,
        callFrame: { functionName, url, lineNumber: 9 },
        children: [] as number[],
      };
      parent?.children.push(id);
      nodes.push(node);
      parent = node;
    }
    samples.push(nodes.length);
  }
  return {
    nodes,
    samples: [...samples, 1],
    timeDeltas: [0, ...samples.map(() => 100)],
    startTime: 0,
    endTime: 100 * samples.length,
  };
}

describe('bench report', () => {
  it('takes medians and quantiles of unsorted lists', () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 2, 3]), 2.5);
    assert.equal(quantile([5, 1, 4, 2, 3], 0.5), 3);
    assert.equal(quantile([5, 1, 4, 2, 3], 0.99), 5);
  });

  it('says which targets are met, by the ratio and not by the absolute figure', () => {
    const report: Report = {
      javascript: throughput(0.61, 5.1),
      python: throughput(0.49),
      conditions: CONDITIONS,
    };
    assert.deepEqual(
      rows(report).map(({ isMet }) => isMet),
      [true, false, false, true],
    );
    assert.match(
      markdownTable(report),
      /\| JavaScript, 2 threads, journal on \| 1000 tasks\/s \(0\.61 × echo\) ✔ \| 0\.6 × \| 0\.8 × \|/,
    );
    assert.match(terminalTable(report), /2 cores \(a processor, 24 GB\)/);
  });

  it('has no row for what was not measured', () => {
    assert.deepEqual(rows({ conditions: CONDITIONS }), []);
  });

  it('tells what was not run and why', () => {
    const report: Report = {
      hub: {
        tasks: 10,
        typescript: { tasksPerSecond: 1, idleP50Ms: 1, idleP99Ms: 1 },
        python: { skipped: 'no SDK' },
      },
      globus: { ThreadPoolEngine: 'it did not start' },
      conditions: CONDITIONS,
    };
    assert.deepEqual(
      rows(report)
        .map(({ found }) => found)
        .slice(1),
      ['not run: no SDK', 'not measured: it did not start'],
    );
  });

  it('gives each sample of a profile to the innermost function that says what it was for', () => {
    const tree = callTree(
      profileOf(
        [['(idle)', '']],
        [['(garbage collector)', '']],
        [
          ['#onFrame', 'file:///x/build/src/agent/worker-host.js'],
          ['received', 'file:///x/build/src/agent/journal/task-journal.js'],
          ['writev', ''],
        ],
        [
          ['send', 'file:///x/build/src/agent/dispatcher.js'],
          ['sendMessage', 'file:///x/node_modules/amqplib/lib/connection.js'],
          ['writeBuffer', ''],
        ],
        [
          ['onread', 'node:internal/stream_base_commons'],
          ['acceptMessage', 'file:///x/node_modules/amqplib/lib/channel.js'],
        ],
        [
          ['#flush', 'file:///x/build/src/agent/worker-host.js'],
          ['writev', ''],
        ],
        [['offer', 'file:///x/build/src/agent/dispatcher.js']],
        [['processTicksAndRejections', 'node:internal/process/task_queues']],
      ),
    );
    assert.deepEqual(summarize(tree), {
      idle: 100,
      journal: 100,
      'amqp write': 100,
      'amqp read': 100,
      'host frames': 100,
      dispatch: 100,
      'worker host': 0,
      gc: 100,
      runtime: 100,
    });
    assert.equal(tree.wallMicros, 800);
  });

  it('draws a flame graph without idle time and with names that are safe in XML', () => {
    const picture = flameGraph(
      callTree(profileOf([['(idle)', '']], [['get <a & "b">', 'file:///x/src/agent/agent.js']])),
      'control process',
      10,
    );
    assert.match(picture, /10\.0 µs busy of 20\.0 µs per task/);
    assert.match(
      picture,
      /get &lt;a &amp; &quot;b&quot;&gt; src\/agent\/agent\.js:10: 10\.00 µs per task, 100\.0 % of busy time/,
    );
    assert.doesNotMatch(picture, /\(idle\)/);
  });

  it('measures the peers and profiles only when asked to', () => {
    const sections = (...args: string[]): string[] => [...(readOptions(args)?.sections ?? [])];
    assert.ok(!sections().includes('globus') && !sections().includes('profile'));
    assert.ok(sections('--vs-globus').includes('globus'));
    assert.deepEqual(sections('--only', 'echo', '--profile'), ['echo', 'profile']);
  });
});
