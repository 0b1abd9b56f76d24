/** What is on the page ↔ the address behind the #. What is missing or wrong in an address is the default. */

export const LEVELS = [0.5, 0.8, 0.9, 0.95, 0.99];
export const MOST_SAMPLES = 10_000;
export const MOST_SEED = Number.MAX_SAFE_INTEGER;
export const VIEWS = ["answer", "calibration", "model"];

/** Which model an address asks for: {name, version, digest}, each null where it doesn't say. */
export function modelIn(address) {
  const said = new URLSearchParams(address.replace(/^#/, ""));
  return { name: said.get("model"), version: said.get("version"), digest: said.get("digest") };
}

/** The state that an address describes, for this model. */
export function stateIn(address, manifest, subject) {
  const said = new URLSearchParams(address.replace(/^#/, ""));
  const values = (said.get("x") ?? "").split(",").map(Number);
  const good = said.has("x") && values.length === subject.dimensions.length && values.every(fits(subject));
  const image = said.get("image") ?? "";
  const sweep = subject.sweepable.find((one) => one.name === said.get("sweep")) ?? favourite(subject);
  const output = manifest.outputs.findIndex((one) => one.name === said.get("output"));
  const dropout = numberIn(said.get("p"), 0, 1);
  const level = Number(said.get("interval"));
  return {
    values: good ? values : subject.dimensions.map((one) => one.start),
    image: subject.kind === "picture" ? (subject.pixels.decoded(image) ? image : null) : null,
    sweep: sweep?.name ?? null,
    // Of a classification: the class whose probability is swept, or whichever leads.
    output: output >= 0 ? output : manifest.task === "regression" ? 0 : null,
    seed: wholeIn(said.get("seed"), 0, MOST_SEED) ?? 7,
    samples: wholeIn(said.get("samples"), 1, MOST_SAMPLES) ?? Math.min(manifest.default_samples, MOST_SAMPLES),
    dropout,
    level: LEVELS.includes(level) ? level : 0.9,
    view: VIEWS.includes(said.get("view")) ? said.get("view") : "answer",
  };
}

/** The address of a state: the same picture for whoever opens it. */
export function addressOf(state, manifest) {
  const said = new URLSearchParams({
    model: manifest.name,
    version: manifest.version,
    digest: shortDigest(manifest),
    ...(state.image ? { image: state.image } : {}),
    x: state.values.join(","),
    ...(state.sweep ? { sweep: state.sweep } : {}),
    ...(state.output == null ? {} : { output: manifest.outputs[state.output].name }),
    seed: state.seed,
    samples: state.samples,
    ...(state.dropout == null ? {} : { p: state.dropout }),
    interval: state.level,
    ...(state.view === "answer" ? {} : { view: state.view }),
  });
  return `#${said.toString().replaceAll("%2C", ",")}`;
}

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

const fits = (subject) => (value, index) => {
  const { categories } = subject.dimensions[index];
  return categories ? Number.isInteger(value) && value >= 0 && value < categories.length : Number.isFinite(value);
};

// The first input is seldom the one that matters; the third of a table is as good a guess as any.
const favourite = (subject) => subject.sweepable[subject.kind === "table" ? Math.min(2, subject.sweepable.length - 1) : 0];
