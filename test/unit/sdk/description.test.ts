import assert from 'node:assert/strict';

import { descriptionOf } from '../../../src/sdk/description.ts';
import { sourceOfText } from '../../../src/sdk/function-source.ts';

function described(source: string, name?: string): string | undefined {
  return descriptionOf(sourceOfText(source, 'javascript', name));
}

function describedPython(source: string, name?: string): string | undefined {
  return descriptionOf(sourceOfText(source, 'python', name));
}

describe('description of a function', () => {
  it('is the doc comment before a source text', () => {
    assert.equal(described('/** Adds. */\nfunction add(a, b) { return a + b; }'), 'Adds.');
    assert.equal(
      described('/**\n * Adds\n *\n *  a and b.\n */\n(a, b) => a + b'),
      'Adds\n\n a and b.',
    );
  });

  it('is the doc comment at the beginning of a body', () => {
    for (const source of [
      'function add(a, b) { /** Adds. */ return a + b; }',
      'async function add({ a = 1 }, b = f(2)) {\n  /** Adds. */\n  return a + b;\n}',
      '(a, b) => /** Adds. */ a + b',
      'async (a) => { /** Adds. */ return a; }',
      'a => /** Adds. */ a',
      'add(a, b) { /** Adds. */ return a + b; }',
    ]) {
      assert.equal(described(source), 'Adds.', source);
    }
  });

  it('is no comment from further inside', () => {
    for (const source of [
      'function add(a, b) { return a + b; }',
      'function add(a) { const inner = () => { /** Not this. */ }; return inner; }',
      'function add(a) { // plain\n return a; /** Not this. */ }',
      '(a) => { /* plain */ return a; }',
      'function add(a) { /** */ return a; }',
    ]) {
      assert.equal(described(source), undefined, source);
    }
  });

  it('is the docstring of the named Python function, without its indentation', () => {
    const source = [
      'def first(a):',
      '    return a',
      '',
      'def add(a: int, b: "x" = (1)) -> dict[str, int]:  # adds',
      '    """Adds.',
      '',
      '    Twice:',
      '        a + b',
      '    """',
      '    return a + b',
    ].join('\n');
    assert.equal(describedPython(source, 'add'), 'Adds.\n\nTwice:\n    a + b');
    assert.equal(describedPython(source, 'first'), undefined);
    assert.equal(describedPython("async def f():\n  r'one line'\n  return 1"), 'one line');
    assert.equal(
      describedPython('def f(a):\n  def g():\n    """Inner."""\n  return g', 'f'),
      undefined,
    );
  });

  it('is found in time that grows with the text, whatever the text', () => {
    const hostile = `function f(${'(a,'.repeat(200_000)} {`;
    described(hostile, 'f');
    describedPython(`def f(${'(a,'.repeat(200_000)}`, 'f');
  });
});
