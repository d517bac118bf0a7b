/**
 * JavaScript's `\s` holds U+FEFF and lacks U+0085; in the regular expressions of Python's tokenizers it is Unicode's
 * White_Space property, so that a text with a byte order mark would be split differently.
 */
export function exactWhiteSpace(source: string): RegExp {
  const exact = source
    .replaceAll('[^\\s', '[^\\p{White_Space}')
    .replaceAll('\\s', '\\p{White_Space}')
    .replaceAll('\\S', '\\P{White_Space}');
  return new RegExp(exact, 'gu');
}
