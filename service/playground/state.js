/** What is on the page ↔ the address behind the #. */

export const LEVELS = [0.5, 0.8, 0.9, 0.95, 0.99];
export const MOST_SAMPLES = 10_000;
export const MOST_SEED = Number.MAX_SAFE_INTEGER;
export const VIEWS = ["answer", "calibration", "model"];

/** Which model an address asks for: {name, version, digest}, each null where it doesn't say. */
export function modelIn(address) {
  const said = partsOf(address);
  return { name: said.get("model"), version: said.get("version"), digest: said.get("digest") };
}

/**
 * {state, ignored}: what an address describes, for this model. Of what is missing in it the default is taken; so it is of
 * what makes no sense, whose names are `ignored`.
 */
export function stateIn(address, manifest, subject) {
  const said = partsOf(address);
  const ignored = [];
  const part = (name, read, otherwise) => {
    const found = said.has(name) ? read(said.get(name)) : undefined;
    if (said.has(name) && found == null) ignored.push(name);
    return found ?? otherwise;
  };
  const among = (allowed) => (text) => allowed.find((one) => String(one) === text);
  const picture = subject.kind === "picture";
  const state = {
    values: part("x", (text) => valuesIn(text, subject), subject.dimensions.map((one) => one.start)),
    image: part("image", (text) => (picture && subject.pixels.decoded(text) ? text : null), null),
    sweep: part("sweep", among(subject.sweepable.map((one) => one.name)), favourite(subject)?.name ?? null),
    // Of a classification: the class whose probability is swept, or whichever leads.
    output: part("output", (text) => indexIn(manifest.outputs, text), manifest.task === "regression" ? 0 : null),
    method: part("method", among(methodsOf(manifest)), "dropout"),
    seed: part("seed", (text) => wholeIn(text, 0, MOST_SEED), 7),
    samples: part("samples", (text) => wholeIn(text, 1, MOST_SAMPLES), Math.min(manifest.default_samples, MOST_SAMPLES)),
    dropout: part("p", (text) => numberIn(text, 0, 1), null),
    level: part("interval", among(LEVELS), 0.9),
    view: part("view", among(VIEWS), "answer"),
  };
  return { state, ignored };
}

/** The address of a state: the same picture for whoever opens it. */
export function addressOf(state, manifest) {
  const said = new URLSearchParams({
    model: manifest.name,
    version: manifest.version,
    digest: shortDigest(manifest),
    ...(state.image ? { image: state.image } : {}),
    x: state.values.join(","), // nothing between commas where a value is missing
    ...(state.sweep ? { sweep: state.sweep } : {}),
    ...(state.output == null ? {} : { output: manifest.outputs[state.output].name }),
    ...(state.method === "dropout" ? {} : { method: state.method }),
    seed: state.seed,
    samples: state.samples,
    ...(state.dropout == null ? {} : { p: state.dropout }),
    interval: state.level,
    ...(state.view === "answer" ? {} : { view: state.view }),
  });
  return `#${said.toString().replaceAll("%2C", ",")}`;
}

/** How a model's committee can be made up: of one network's thinned ones, or also of those of its members. */
export const methodsOf = (manifest) => (manifest.members?.length ? ["dropout", "ensemble"] : ["dropout"]);

/** Enough of a digest to notice another model. */
export const shortDigest = (manifest) => manifest.digest.replace("sha256:", "").slice(0, 8);

/** Text → a whole number between two others, or null. */
export function wholeIn(text, least, most) {
  const value = /^\d{1,16}$/.test(text ?? "") ? Number(text) : NaN;
  return value >= least && value <= most ? value : null;
}

/** Text → a number between two others, or null. */
export function numberIn(text, least, most) {
  const value = (text ?? "").trim() === "" ? NaN : Number(text);
  return value >= least && value <= most ? value : null;
}

const partsOf = (address) => new URLSearchParams(address.replace(/^#/, ""));

const indexIn = (outputs, text) => {
  const index = outputs.findIndex((one) => one.name === text);
  return index < 0 ? null : index;
};

/** "1,2,,0" → a number for each dimension, null where one is missing that may be; null where they don't fit. */
function valuesIn(text, { dimensions }) {
  const texts = text.split(",");
  const values = texts.map((one, index) => {
    const { choices, missing } = dimensions[index] ?? {};
    if (missing && one === "") return null;
    return (choices ? wholeIn(one, 0, choices.length - 1) : numberIn(one, -Infinity, Infinity)) ?? NaN;
  });
  const good = values.length === dimensions.length && values.every((value) => value === null || Number.isFinite(value));
  return good ? values : null;
}

// The first input is seldom the one that matters; the third of a table is as good a guess as any.
const favourite = (subject) => subject.sweepable[subject.kind === "table" ? Math.min(2, subject.sweepable.length - 1) : 0];
