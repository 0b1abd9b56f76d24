/** A manifest for people: what a version is, where it comes from, what it takes and gives. */

import { h } from "./dom.js";
import { path } from "./service.js";
import { counted, number, plain, whole } from "./words.js";

const MOST_INPUTS = 80;

/** The tab, for a manifest. */
export function factsView(manifest) {
  const { architecture, provenance, reproducibility } = manifest;
  const rows = provenance?.rows ? Object.entries(provenance.rows).map(([name, count]) => `${whole(count)} ${name}`).join(", ") : null;
  return [
    h("p", { class: "about" }, manifest.description),
    h("dl", { class: "facts" },
      fact("Name", `${manifest.name}, version ${manifest.version}`),
      fact("Digest", h("code", null, manifest.digest)),
      fact("Network", network(architecture)),
      fact("Dropout", dropout(architecture)),
      fact("Members", manifest.members?.length ? String(manifest.members.length) : null),
      fact("Default samples", whole(manifest.default_samples)),
      fact("Outputs", manifest.outputs.map((output) => output.name + (output.units ? ` (${output.units})` : "")).join(", ")),
      fact("Trained on", [provenance?.data, rows].filter(Boolean).join(": ") || null),
      fact("Reproducible", reproducibility.verified ? "bit for bit, verified when it was loaded" : "not verified: last digits may depend on what else is computed"),
    ),
    h("h3", null, counted(manifest.inputs.length, "input")),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Inputs" }, h("table", { class: "figures" },
      h("thead", null, h("tr", null, ["Name", "Units", "Seen in training", "Mean"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, manifest.inputs.slice(0, MOST_INPUTS).map((input) => h("tr", null, h("th", { scope: "row" }, input.name),
        h("td", null, input.units ?? "–"),
        h("td", null, seen(input)),
        h("td", null, number(input.mean))))),
    )),
    h("p", null, h("a", { href: path(manifest.name, manifest.version) }, "The whole manifest as JSON")),
  ];
}

/** What training has seen of an input. */
function seen({ kind, range, categories, missing }) {
  const values = range ? range.map((end) => plain(end)).join(" … ") : kind === "boolean" ? "false, true" : categories ? categories.join(", ") : "unknown";
  return values + (missing ? ", missing" : "");
}

const fact = (name, value) => (value ? h("div", null, h("dt", null, name), h("dd", null, value)) : null);

function network({ kind, inputs, hidden, activation, norm, residual, head }) {
  if (kind !== "mlp" || !Array.isArray(hidden)) return kind;
  const noise = head.variance ? "mean and variance" : null;
  const extras = [activation, norm && norm !== "none" ? `${norm} norm` : null, residual ? "residual" : null, noise].filter(Boolean);
  return `${[inputs, ...hidden, head.classes ?? head.outputs].join(" → ")}; ${extras.join(", ")}`;
}

function dropout(architecture) {
  const rates = [architecture.dropout].flat().filter((rate) => rate != null);
  const onInputs = architecture.input_dropout ? [`${architecture.input_dropout} on inputs`] : [];
  return rates.length ? [...onInputs, `${rates.join(", ")} after the layers`].join("; ") : null;
}
