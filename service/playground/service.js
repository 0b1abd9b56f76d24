/** What the page asks of the service. Paths are relative, so that it also works below a proxy's path. */

import { credentials } from "./key.js";

/** The service said no, and why: a problem (RFC 9457). */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body?.detail ?? `the service answered ${status}`);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether another key could help. */
  get wantsKey() {
    return this.status === 401 || this.status === 403;
  }
}

/** No answer, or half of one. */
export class Unreachable extends Error {}

/** The models that are ready. */
export const models = async () => (await json("v1/models")).models.filter((model) => model.ready);

/** The manifest of a version, or of the one that is served by default. */
export const manifest = (name, version) => json(path(name, version));

/** Whether the service takes requests. */
export const ready = () => json("health/ready").then((answer) => answer.ready, () => false);

/** Where a version is asked. */
export function path(name, version, verb) {
  const parts = ["v1", "models", encodeURIComponent(name)];
  if (version) parts.push("versions", encodeURIComponent(version));
  return [...parts, ...(verb ? [verb] : [])].join("/");
}

/** The answer to one request. */
export const post = (where, request, signal) => json(where, asking(request, signal));

/** The answer to one request while it grows: yields {answer, done}, from server-sent events. */
export async function* stream(where, request, signal) {
  const response = await reached(() => fetch(where, asking(request, signal)));
  if (!response.ok) throw await problem(response);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let finished = false;
  while (!finished) {
    const { value, done } = await reached(() => reader.read());
    if (done) throw new Unreachable("the stream ended before its answer");
    const events = (text + decoder.decode(value, { stream: true })).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const [name, data] = event.split("\n").map((line) => line.slice(line.indexOf(": ") + 2));
      const body = JSON.parse(data);
      if (name === "problem") throw new Problem(body.status, body);
      finished = name === "answer";
      yield { answer: body, done: finished };
    }
  }
}

const asking = (request, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json", ...credentials() },
  body: JSON.stringify(request),
  signal,
});

async function json(where, options = { headers: credentials() }) {
  const response = await reached(() => fetch(where, options));
  if (!response.ok) throw await problem(response);
  return reached(() => response.json());
}

async function problem(response) {
  const body = await response.json().catch(() => null);
  return new Problem(response.status, body, Number(response.headers.get("retry-after")));
}

/** What a step of the network gives; where it fails there was no answer, unless it was given up here. */
async function reached(step) {
  try {
    return await step();
  } catch (error) {
    throw error.name === "AbortError" ? error : new Unreachable(error.message);
  }
}
