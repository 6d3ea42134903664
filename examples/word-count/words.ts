/** The words of a text, in lower case. */
export function words(text: string): string[] {
  return text.toLowerCase().match(/\p{Letter}+/gu) ?? [];
}
