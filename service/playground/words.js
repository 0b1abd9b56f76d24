/** Numbers as people read them. Knows nothing of where they come from. */

const MINUS = "−";
const MOST_PLACES = 8;

/** A number with so many decimals, thousands apart and a proper minus sign: -1234.5 → "−1,234.5". */
function fixed(value, places) {
  const text = value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places, signDisplay: "negative" });
  return text.replace("-", MINUS);
}

/** A whole number with its thousands apart: 1,000. */
export const whole = (number) => fixed(number, 0);

/** A share as per cent: 0.873 → "87 %"; near the ends with a digit more, and never a false 0 or 100. */
export function percent(share, places) {
  if (share == null) return "–";
  const of = share * 100;
  if (of > 0 && of < 0.1) return "<\u00a00.1\u00a0%";
  if (of < 100 && of > 99.9) return ">\u00a099.9\u00a0%";
  const usual = of > 0 && of < 100 && (of < 9.95 || of > 99) ? 1 : 0;
  return `${fixed(of, places ?? usual)}\u00a0%`;
}

/** A number with three significant digits, or all before the point: -0.0423 → "−0.0423", 1234.5 → "1,235". */
export function number(value, digits = 3) {
  if (value == null) return "–";
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(value)));
  return size > 6 || size < -5 ? value.toExponential(digits - 1).replaceAll("-", MINUS) : fixed(value, Math.max(0, digits - 1 - size));
}

/** The same without zeros at the end: 8 → "8". */
export const plain = (value, digits) => number(value, digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");

/** A value beside its spread, both with the digits that the spread leaves: 199.86, 60.7 → ["200", "61"]. */
export function pair(value, spread) {
  if (spread == null || spread === 0) return [number(value), null];
  const places = Math.min(MOST_PLACES, Math.max(0, 1 - Math.floor(Math.log10(spread))));
  return [fixed(value, places), fixed(spread, places)];
}

/** As it stands in a field, where every digit counts: -0.04 → "−0.04". */
export const typed = (value) => String(value).replaceAll("-", MINUS);

/** What somebody typed, with a minus sign that computers know. */
export const untyped = (text) => text.replaceAll(MINUS, "-").trim();

/** A number for the wire: the same picture from a sixth of the digits. */
export const tidy = (value) => Number(value.toPrecision(6));

/** 1 → "1 sample", 100 → "100 samples". */
export const counted = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;

/** ["x"] → "x"; ["x", "seed"] → "x and seed". */
export const listed = (names) => new Intl.ListFormat("en").format(names);
