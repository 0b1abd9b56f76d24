/** From what is on the page to the requests that answer it, and to commands that ask the same. */

import { hasKey } from "./key.js";
import { path } from "./service.js";
import { gridOf, moved } from "./subjects.js";

/** So many thinned networks are drawn one by one; more would be a smear. */
export const CURVES = 40;

const VERBS = { sample: "sample", stream: "sample/stream", predict: "predict" };

/**
 * What is asked: `summary`, the row itself and then each point of the sweep, summarised over the whole committee;
 * `curves`, the same rows as the first thinned networks see them, one by one; `full`, the row for the full network.
 */
export function questionOf(state, manifest, subject) {
  const index = subject.dimensions.findIndex((one) => one.name === state.sweep);
  const dimension = subject.dimensions[index];
  const grid = dimension ? gridOf(dimension, subject.points, state.values[index]) : [];
  const inputs = [state, ...grid.map((value) => moved(state, index, value))].map((one) => subject.row(one));
  const shared = {
    inputs, seed: state.seed,
    ...(state.method === "dropout" ? {} : { method: state.method }),
    ...(state.dropout == null ? {} : { dropout: state.dropout }),
  };
  return {
    where: Object.fromEntries(Object.entries(VERBS).map(([name, verb]) => [name, path(manifest.name, manifest.version, verb)])),
    summary: { ...shared, samples: state.samples, interval: state.level },
    curves: { ...shared, samples: Math.min(CURVES, state.samples), return_draws: true },
    full: { inputs: [inputs[0]] },
    grid, dimension, index, state, manifest, subject,
  };
}

/** Shell commands that get what is on the screen, to the byte: the summary, the curves, the full network. */
export function asCurl(question) {
  const { where, summary, curves, full } = question;
  const ask = (words, to, request) => [
    `# ${words}\ncurl -s '${new URL(to, document.baseURI)}'`,
    "-H 'Content-Type: application/json'",
    ...(hasKey() ? ['-H "Authorization: Bearer $PENUMBRA_API_KEY"'] : []),
    `-d '${JSON.stringify(request).replaceAll("'", "'\\''")}'\n`,
  ].join(" \\\n  ");
  return [
    ask(SUMMARY, where.sample, summary),
    ask(curvesOf(question), where.sample, curves),
    ask(fullOf(question), where.predict, full),
  ].join("\n");
}

/** The same in Python. */
export function asPython(question) {
  const { where, summary, curves } = question;
  const { inputs, ...options } = summary;
  const { inputs: _, ...draws } = curves;
  const rows = inputs.map((row) => `    [${row.map(literal).join(", ")}],`).join("\n");
  const url = (to) => JSON.stringify(String(new URL(to, document.baseURI)));
  const imports = hasKey() ? "import os\n\nimport httpx" : "import httpx";
  const headers = hasKey() ? `, headers={"Authorization": "Bearer " + os.environ["PENUMBRA_API_KEY"]}` : "";
  return `${imports}


def ask(url, **request):
    return httpx.post(url, json=request${headers}).raise_for_status().json()


inputs = [
${rows}
]

# ${SUMMARY}
answer = ask(${url(where.sample)}, inputs=inputs, ${python(options)})

# ${curvesOf(question)}
curves = ask(${url(where.sample)}, inputs=inputs, ${python(draws)})["draws"]

# ${fullOf(question)}
full = ask(${url(where.predict)}, inputs=inputs[:1])
`;
}

const SUMMARY = "The row, and each point of the sweep, summarised over the committee.";
const curvesOf = ({ curves: { samples }, state }) => `The curves: the first ${samples === 1 ? "" : `${samples} `}${voters(state, samples)}, one by one.`;
const fullOf = ({ manifest }) => (manifest.members?.length ? "The mean of the full members, for the row." : "The full network, for the row.");

/** What a committee consists of: "thinned networks". */
export const voters = ({ dropout }, count) => `${dropout === 0 ? "full" : "thinned"} network${count === 1 ? "" : "s"}`;

const python = (options) => Object.entries(options).map(([name, value]) => `${name}=${literal(value)}`).join(", ");

const literal = (value) => ({ true: "True", false: "False", null: "None" })[value] ?? JSON.stringify(value);
