/** An answer while it grows: each step is the whole answer of a prefix of the committee, the last one that of all. */

import { post, stream } from "./service.js";

const AT_ONCE = 500; // samples that hardly take longer than their first block

/**
 * Yields {answer, draws, full, done}: what the first samples of a question's committee say together, what those of them
 * that are drawn say one by one, and what the full network says. By the prefix law none of them changes when others join.
 * Where `live` is false, what takes no time is asked for at once.
 */
export async function* grow({ where, summary, curves, full: row }, live, signal) {
  const atOnce = !live && summary.samples <= AT_ONCE;
  const [{ draws }, full, whole] = await Promise.all([
    post(where.sample, curves, signal),
    post(where.predict, row, signal),
    atOnce ? post(where.sample, summary, signal) : null,
  ]);
  for await (const { answer, done } of atOnce ? [{ answer: whole, done: true }] : stream(where.stream, summary, signal)) {
    yield { answer, draws: draws.slice(0, answer.samples), full, done };
  }
}
