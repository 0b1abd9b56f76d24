/** An answer while it grows: each step is the whole answer of a prefix of the committee, the last one that of all. */

import { post } from "./service.js";

const FIRST = 2; // of one network alone there is no spread
const AT_ONCE = 128;

/**
 * Yields {answer, draws, full, done} for longer and longer prefixes of a question's committee, `full` being what the full
 * network says. By the prefix law none of the networks that are shown changes when others join. Where `live` is false,
 * what takes no time is asked for at once.
 */
export async function* grow({ where, summary, curves, full: row }, live, signal) {
  const draws = [];
  const full = post(where.predict, row, signal);
  full.catch(() => {}); // told below, where it is waited for
  for (const samples of sizes(summary.samples, live)) {
    const wanted = Math.min(samples, curves.samples) - draws.length;
    const range = { ...curves, first_sample: draws.length, samples: wanted };
    const [answer, more] = await Promise.all([
      post(where.sample, { ...summary, samples }, signal),
      wanted > 0 ? post(where.sample, range, signal) : null,
    ]);
    draws.push(...(more?.draws ?? []));
    yield { answer, draws, full: await full, done: samples === summary.samples };
  }
}

function sizes(samples, live) {
  const found = [];
  for (let size = live ? FIRST : AT_ONCE; size < samples; size *= 2) found.push(size);
  return [...found, samples];
}
