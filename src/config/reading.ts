/** What a reader of a value returns: it never throws, so that all problems are reported at once. */

/** What a reader made of a value, or what it expected instead. */
export type Reading<T> = { readonly value: T } | { readonly expected: string };
