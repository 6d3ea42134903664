/** Random texts, JSON, packed buffers and damaged bytes, for the properties of the wire and of the journal. */
import fc from 'fast-check';

/** Texts of every kind that the wire can carry: ASCII, several bytes a character, lone surrogates, and what looks like a field. */
export const texts: fc.Arbitrary<string> = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom('\n', '"', '\\', '0', '1', ':', '\0', '\ud800', '😀', 'é') }),
  fc.constantFrom('st\nf:def f(): pass\n', '11\n[1]', '"timestamp":1234567890123456789,', '1\n'),
);

/** JSON objects, also with keys that mean something elsewhere. Numbers are what JSON can carry both ways. */
export const jsonObjects: fc.Arbitrary<Record<string, unknown>> = fc.dictionary(
  fc.oneof(texts, fc.constantFrom('timestamp', 'type', 'message_type', 'data', 'toString')),
  fc.oneof(fc.jsonValue({ maxDepth: 3 }), fc.maxSafeInteger()).map(withoutMinusZero),
  { maxKeys: 5, noNullPrototype: true },
);

/** JSON writes -0 as 0, and a null prototype is not what a parser makes. */
function withoutMinusZero(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** Packed buffers, right and nearly right. */
export const packedTexts: fc.Arbitrary<string> = fc
  .array(
    fc.tuple(
      fc.oneof(fc.constant(0), fc.integer({ min: -2, max: 2 })),
      fc.constantFrom('', '', '', '0', '00000000000', ' ', '+', '-', '٣', 'x'),
      texts,
    ),
    { maxLength: 4 },
  )
  .map((parts) =>
    parts
      .map(([off, before, text]) => `${before}${Array.from(text).length + off}\n${text}`)
      .join(''),
  );

/** Bytes with damage: cut, flipped, overwritten, repeated, or replaced by noise. */
export function damagedBytes(whole: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const damage = fc.tuple(
    fc.constantFrom('cut', 'flip', 'write', 'repeat', 'noise'),
    fc.nat(),
    fc.uint8Array({ minLength: 1, maxLength: 16 }),
  );
  return fc
    .tuple(whole, fc.array(damage, { minLength: 1, maxLength: 3 }))
    .map(([bytes, damages]) => damages.reduce(applyDamage, Buffer.from(bytes)));
}

function applyDamage(
  bytes: Buffer,
  [kind, where, noise]: [string, number, Uint8Array],
): Buffer<ArrayBuffer> {
  const at = bytes.length === 0 ? 0 : where % bytes.length;
  const rest = bytes.subarray(at);
  switch (kind) {
    case 'cut':
      return Buffer.from(bytes.subarray(0, at));
    case 'flip':
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.from(rest.subarray(0, 1).map((byte) => byte ^ (1 << (where % 8)))),
        rest.subarray(1),
      ]);
    case 'write':
      return Buffer.concat([bytes.subarray(0, at), noise, rest.subarray(noise.length)]);
    case 'repeat':
      return Buffer.concat([bytes, rest]);
    default:
      return Buffer.from(noise);
  }
}
