/** Digits to begin with. */

import { LARGE } from "./large.js";

/** {note, pictures}: pairs of a name and an image, for a subject that tells digits apart, and what to know about them. */
export function examplesFor({ digits, pixels }) {
  if (!digits) return { note: null, pictures: [] };
  const { width, height, most } = pixels;
  if (width === 28 && height === 28 && pixels.fine) return { note: null, pictures: LARGE };
  if (width === 8 && height === 8 && most === 16) return { note: null, pictures: SMALL };
  return { note: "The examples are enlarged from 8 × 8 pixels.", pictures: SMALL.map(([name, text]) => [name, pixels.enlarged(text)]) };
}

/** Of 8 × 8 pixels from 0 to 16, from the test set that scikit-learn ships (Alpaydin, Kaynak 1998). */
const SMALL = [
  // The first is the README's: a 6 that the full network takes for a 1.
  ["a doubtful 6", "0000d1000007f300000gb200004gge10005g88a0009g40f00029bde00000aga0"],
  ["a 0", "002e910001ccb80004e10d3008d00a6005g1089000g00b9000dbaf40003fg500"],
  ["a 1", "004gf700006gg600005gg400007gf00000bge000006ge000006gg500002cg300"],
  ["a 2", "007gg30007g9e7000a90e5000334g200000cb000006g300000cf883000aggg90"],
  ["a 3", "007egb0002gbbg200033f900000ag8000003ef2000001g60003cdf20006gc500"],
  ["a 4", "0006e000004f400001d9470007d1da600ee8gga007fgg7100006g000000ad000"],
  ["a 5", "00cgg80003gd850002g3000000gd900000agg7000001ad00002bga0000bgc000"],
  ["a 6", "002g8000008f500002g7000003g7510007gggf3005gc4ae000ed5af0003dgg70"],
  ["a 7", "004fgc000069ca000000a9000024fa4002fggf70008d9000001g4000006d0000"],
  ["an 8", "004fg60000dbbf0000fdfg70007ggb20005fg20000g9cb0002g68g00007ed800"],
  ["a 9", "008ec30006g6ee0006d08e0002eeeg3000246g5000000g5000005g30007gg800"],
];
