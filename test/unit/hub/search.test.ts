import assert from 'node:assert/strict';

import { locationProblem } from '../../../src/hub/containers/environment-registry.ts';
import { docCommentOf, docOfPackedFunction } from '../../../src/hub/search/doc-comment.ts';
import { searchQueryText } from '../../../src/hub/search/search-query.ts';
import { packBuffers } from '../../../src/protocol/serialization.ts';

describe('a search query', () => {
  it('wants every word, the last one from its beginning', () => {
    assert.equal(searchQueryText('fast fourier'), "'fast' & 'fourier':*");
    assert.equal(searchQueryText('  numpy.linalg_norm '), "'numpy' & 'linalg' & 'norm':*");
    assert.equal(searchQueryText('größe'), "'größe':*");
  });

  it('does not take a single letter for a beginning', () => {
    assert.equal(searchQueryText('matrix x'), "'matrix' & 'x'");
  });

  it('is none without a word', () => {
    for (const typed of ['', '  ', "'", '!?&|():*\\', '\0']) {
      assert.equal(searchQueryText(typed), undefined);
    }
  });

  it('leaves nothing in a word that has a meaning in the language of queries', () => {
    assert.equal(searchQueryText("it's a:*b <-> c"), "'it' & 's' & 'a' & 'b' & 'c'");
  });

  it('is bounded in words and in their length', () => {
    const text = searchQueryText('word '.repeat(100));
    assert.equal(text?.split(' & ').length, 16);
    assert.equal(searchQueryText('x'.repeat(1000))?.length, "''".length + 64 + ':*'.length);
  });
});

describe('the doc comment of a function', () => {
  it('is the docstring of a Python function', () => {
    assert.equal(
      docCommentOf('def f(x):\n    """Adds one.\n\n    To x."""\n', 'python'),
      'Adds one.\n\n    To x.',
    );
    assert.equal(
      docCommentOf("def f(x: int) -> int:  # note\n    r'''Raw.'''\n", 'python'),
      'Raw.',
    );
    assert.equal(
      docCommentOf('def f():\n    "Short."\n    return ":\\n\'no\'"', 'python'),
      'Short.',
    );
    assert.equal(docCommentOf('def f():\n    return 1\n', 'python'), undefined);
  });

  it('is the first doc comment of a JavaScript function', () => {
    assert.equal(
      docCommentOf('/**\n * Adds one.\n * @param x a number\n */\nfunction f(x) {}', 'javascript'),
      'Adds one.\n@param x a number',
    );
    assert.equal(docCommentOf('// no\n(x) => x', 'javascript'), undefined);
  });

  it('stands after any head, whatever stood before it', () => {
    const python =
      '# a: comment\nA = {1: 2}\n\n@wrapped(x=":")\ndef f(x,  # y: z\n      y=":"):\r\n\n    u"Doc: it."\r\n';
    assert.equal(docCommentOf(python, 'python'), 'Doc: it.');
    assert.equal(docCommentOf('def f():\n    "not\nclosed"', 'python'), undefined);
    assert.equal(docCommentOf('/** never closed', 'javascript'), undefined);
    assert.equal(docCommentOf('const a = 1 /* **/', 'javascript'), undefined);
  });

  // Whoever registers a function would hold up everybody else.
  it('is looked for in a time that grows with the text only', () => {
    const before = process.cpuUsage();
    for (const part of [':#', ':', ':\n', ':\n"', ":\n'''", ': \t', ':\n   ']) {
      docCommentOf(part.repeat(32_768), 'python');
    }
    for (const part of ['/** ', '/**', '/** * ']) {
      docCommentOf(part.repeat(16_384), 'javascript');
    }
    assert.ok(process.cpuUsage(before).user < 2_000_000);
  });

  it('is read from packed texts and from nothing else', () => {
    assert.equal(docOfPackedFunction(packBuffers(['st\nf:def f():\n    """Doc."""\n'])), 'Doc.');
    assert.equal(docOfPackedFunction(packBuffers(['js\n/** Doc. */ () => 1'])), 'Doc.');
    assert.equal(docOfPackedFunction(packBuffers(['01\ngASV:\n"x"'])), undefined);
  });
});

describe('the location of an environment', () => {
  it('is no option and nothing that a command line would split', () => {
    for (const location of ['--rm', 'a --rm', 'a\nb', 'a b', '']) {
      assert.notEqual(locationProblem('docker', location), undefined, location);
    }
    assert.equal(locationProblem('module', 'gcc/12 python/3.11'), undefined);
    assert.equal(locationProblem('venv', '/opt/with space'), undefined);
    assert.match(locationProblem('venv', 'opt') ?? '', /absolute path/);
  });
});
