/** Numbers as people read them. Knows nothing of where they come from. */

const exact = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A whole number with its thousands apart: 1,000. */
export const whole = (number) => exact.format(number);

/** A share as per cent: 0.873 → "87 %"; near the ends with a digit more, and never a false 0 or 100. */
export function percent(share) {
  if (share == null) return "–";
  const of = share * 100;
  if (of > 0 && of < 0.1) return "< 0.1 %";
  if (of < 100 && of > 99.9) return "> 99.9 %";
  return `${of.toFixed(of > 0 && of < 100 && (of < 9.95 || of > 99) ? 1 : 0)} %`;
}

/** A number with about so many significant digits, and a proper minus sign: -0.0423 → "−0.042". */
export function number(value, digits = 3) {
  if (value == null) return "–";
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(value)));
  const text = size > 6 || size < -5 ? value.toExponential(digits - 1) : value.toFixed(Math.max(0, digits - 1 - size));
  return text.replace("-", "−");
}

/** A value beside its spread, both with the digits that the spread leaves: 199.86, 60.7 → ["200", "61"]. */
export function pair(value, spread) {
  if (spread == null || spread === 0) return [number(value, 4), null];
  const places = Math.min(8, Math.max(0, 1 - Math.floor(Math.log10(spread))));
  return [value.toFixed(places).replace("-", "−"), spread.toFixed(places)];
}

/** A number for the wire: the same picture from a sixth of the digits. */
export const tidy = (value) => Number(value.toPrecision(6));

/** 1 → "1 sample", 100 → "100 samples". */
export const counted = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;
