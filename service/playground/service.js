/** What the page asks of the service. Paths are relative, so that it also works below a proxy's path. */

/** The service said no, and why: a problem (RFC 9457). */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body?.detail ?? `the service answered ${status}`);
    this.status = status;
    this.retryAfter = retryAfter;
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
export const post = (where, request, signal) =>
  json(where, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request), signal });

async function json(where, options) {
  let response, body;
  try {
    response = await fetch(where, options);
    body = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw response && !response.ok ? new Problem(response.status) : new Unreachable(error.message);
  }
  if (!response.ok && response.status !== 503) throw new Problem(response.status, body);
  if (!response.ok) throw new Problem(503, body, Number(response.headers.get("retry-after")) || 1);
  return body;
}
