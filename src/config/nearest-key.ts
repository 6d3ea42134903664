/** Finds the key that somebody who wrote an unknown one most likely meant. */

/** The candidate nearest to `word`, unless all are too far from it to be what was meant. */
export function nearestKey(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(normalized(word), normalized(candidate));
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

// camelCase and kebab-case spellings of a key are no distance at all.
function normalized(word: string): string {
  return word
    .slice(0, 64)
    .replaceAll(/(?<lower>[a-z0-9])(?<upper>[A-Z])/g, '$<lower>_$<upper>')
    .replaceAll('-', '_')
    .toLowerCase();
}

function editDistance(left: string, right: string): number {
  let previous = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= right.length; column += 1) {
      const substituted =
        (previous[column - 1] ?? 0) + (left[row - 1] === right[column - 1] ? 0 : 1);
      const deleted = (previous[column] ?? 0) + 1;
      const inserted = (current[column - 1] ?? 0) + 1;
      current.push(Math.min(substituted, deleted, inserted));
    }
    previous = current;
  }
  return previous[right.length] ?? 0;
}
