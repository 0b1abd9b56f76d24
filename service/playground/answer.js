/** The answer as people see it: a sentence, what the doubt consists of, and the sweep. */

import { Chart, described } from "./chart.js";
import { colour } from "./colours.js";
import { ballot, committee, doubt } from "./committee.js";
import { fill, h, idOf } from "./dom.js";
import { moved } from "./subjects.js";
import { counted, number, pair, percent, whole } from "./words.js";

// Two-sided quantiles of the normal distribution, for bands of standard deviations beside an interval of that level.
const WIDTHS = { 0.5: 0.6745, 0.8: 1.2816, 0.9: 1.6449, 0.95: 1.96, 0.99: 2.5758 };
const PLACES = 9; // rows of the sweep as a table

export class AnswerView {
  /** In an element; `change(part)` is called with what somebody changed in the picture itself. */
  constructor(element, manifest, subject, change) {
    Object.assign(this, { manifest, subject, change });
    this.regression = manifest.task === "regression";
    this.labels = manifest.outputs.map((output) => output.name);
    this.head = h("div", { class: "head" });
    this.figure = h("div", { class: "doubt" });
    this.votes = h("div", { class: "votes" });
    this.table = h("tbody");
    this.tableHead = h("thead");
    this.readout = h("p", { class: "readout", "aria-hidden": "true" });
    this.legend = h("ul", { class: "legend" });
    this.frame = h("div", { class: "chart", role: "img" });
    this.small = h("div", { class: "small-pictures", "aria-hidden": "true" });
    const sweepable = subject.sweepable;
    this.sweep = select("Sweep over", sweepable.map((one) => [one.name, one.label]), (sweep) => change({ sweep }));
    const outputs = this.regression ? [] : [["", "the leading class"]];
    this.output = select(this.regression ? "Output" : "Probability of", [...outputs, ...this.labels.map((name, index) => [String(index), name])],
      (text) => change({ output: text === "" ? null : Number(text) }));
    const chooses = !this.regression || this.labels.length > 1;
    fill(element,
      h("div", { class: "summary" }, this.head, this.figure), this.regression ? null : this.votes,
      sweepable.length ? h("section", { class: "sweep", "aria-label": "Sweep" },
        h("div", { class: "sweep-head" }, h("h3", null, "Sweep"), chooses ? this.output.element : null, this.sweep.element),
        h("div", null, this.frame, this.small), h("div", { class: "under" }, this.legend, this.readout),
        h("details", { class: "as-table" }, h("summary", null, "The sweep as a table"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The sweep as a table" }, h("table", null, this.tableHead, this.table))),
      ) : null,
    );
  }

  /** Shows a step of growth. `steady`: the picture is the same but for what moved in it. */
  show(question, step, { steady }) {
    const { state } = question;
    this.question = question;
    this.step = step;
    this.sweep.show(state.sweep);
    this.output.show(state.output == null ? "" : String(state.output));
    if (this.regression) this.showRegression(question, step);
    else this.showClassification(question, step);
    if (question.dimension) this.showSweep(question, step, steady);
  }

  /** The sentence that is read aloud when an answer is complete. */
  get spoken() {
    return this.sentence;
  }

  redraw() {
    this.chart?.redraw();
    if (this.step) this.show(this.question, this.step, { steady: true });
  }

  showRegression({ state, summary }, { answer, full }) {
    const output = state.output ?? 0;
    const { units, name, scale } = this.manifest.outputs[output];
    const at = (matrix) => matrix?.[0]?.[output] ?? null;
    const [mean, std, epistemic, aleatoric] = [answer.mean, answer.std, answer.epistemic_std, answer.aleatoric_std].map(at);
    const [value, spread] = pair(mean, std);
    const { kind, lower, upper } = answer.interval;
    const [low, high] = [at(lower), at(upper)];
    const [from, to] = spread == null ? [number(low), number(high)] : [pair(low ?? 0, std)[0], pair(high ?? 0, std)[0]];
    const holds = { predictive: "of observations should lie between", conformal: "of observations lie (conformally calibrated) between", epistemic: "of the networks’ means lie between" }[kind];
    const nothing = kind === "conformal" ? `Calibration had too few rows for an interval of ${percent(summary.interval)}.` : "One network alone has no spread.";
    const interval = low == null || high == null ? nothing : `${percent(summary.interval)} ${holds} ${from} and ${to}.`;
    this.sentence = `${name}: ${value}${spread ? ` plus or minus ${spread}` : ""}${units ? ` ${units}` : ""}. ${interval}`;
    this.brief = spread ? `${value} ± ${spread}` : value;
    fill(this.head,
      h("p", { class: "what" }, name),
      h("p", { class: "value" }, value, spread ? h("span", { class: "spread" }, ` ± ${spread}`) : null, units ? h("span", { class: "units" }, ` ${units}`) : null),
      h("p", { class: "meaning" }, interval, h("span", { class: "quiet" }, ` The full network alone says ${pair(full.mean[0][output], std)[0]}. `,
        this.unusual({ predictive_std: std && std / scale, epistemic_std: epistemic && epistemic / scale }))),
    );
    const variance = epistemic == null ? null : epistemic ** 2 + (aleatoric ?? 0) ** 2;
    const share = (part) => (variance ? (part ?? 0) ** 2 / variance : 0);
    doubt(this.figure, {
      title: "Where the doubt comes from", whole: variance == null ? "–" : `± ${number(Math.sqrt(variance))}`, unit: units,
      parts: [
        { kind: "epistemic", name: "Epistemic", value: epistemic, share: share(epistemic), meaning: `the networks disagree · ${percent(variance ? share(epistemic) : null)} of the variance` },
        ...(aleatoric == null ? [] : [{ kind: "aleatoric", name: "Aleatoric", value: aleatoric, share: share(aleatoric), meaning: `noise in the data · ${percent(variance ? share(aleatoric) : null)}` }]),
      ],
    });
  }

  showClassification({ state, summary }, { answer, draws, full }) {
    const [label, votes] = [answer.labels[0], answer.votes[0]];
    const winner = this.labels.indexOf(label);
    const all = votes.reduce((sum, one) => sum + one, 0);
    const others = votes.map((count, index) => [count, index]).filter(([count, index]) => count && index !== winner).sort((a, b) => b[0] - a[0]);
    const rest = others.slice(0, 2).map(([count, index]) => `${whole(count)} for ${this.labels[index]}`).join(", ");
    const agree = others.length ? `${whole(votes[winner])} of ${counted(all, "thinned network")} vote for it; ${rest}.` : `All ${whole(all)} thinned networks vote for it.`;
    const chance = answer.probabilities[0][winner];
    this.sentence = `${label}, with a probability of ${percent(chance)}. ${agree}`;
    const likely = answer.prediction_set?.[0] ? ` With ${percent(summary.interval)} it is among: ${answer.prediction_set[0].join(", ") || "none of them"}.` : "";
    this.brief = `${label} ${percent(chance)}`;
    const alone = full.labels[0];
    const its = percent(full.probabilities[0][this.labels.indexOf(alone)]);
    fill(this.head,
      h("p", { class: "what" }, "The committee says"),
      h("p", { class: "value" }, label, h("span", { class: "spread" }, ` ${percent(chance)}`)),
      h("p", { class: "meaning" }, agree, likely, h("span", { class: "quiet" }, ` The full network alone says ${alone} with ${its}. `,
        this.unusual({ predictive_entropy: answer.predictive_entropy[0], mutual_information: answer.mutual_information?.[0] }))),
    );
    fill(this.votes, ballot(votes, this.labels), committee(answer, draws, this.labels));
    const most = Math.log(this.labels.length);
    const [expected, mutual] = [answer.expected_entropy[0], answer.mutual_information?.[0] ?? null];
    doubt(this.figure, {
      title: "Where the doubt comes from", whole: `${number(answer.predictive_entropy[0])} of ${number(most)} nats`, unit: "nats",
      parts: [
        { kind: "epistemic", name: "Mutual information", value: mutual, share: (mutual ?? 0) / most, meaning: "the networks disagree" },
        { kind: "aleatoric", name: "Expected entropy", value: expected, share: expected / most, meaning: "each of them is unsure" },
      ],
    });
    this.winner = state.output ?? winner;
  }

  /** Where this row stands among those that the model was validated on. */
  unusual(found) {
    for (const [quantity, value] of Object.entries(found).reverse()) {
      const known = this.manifest.uncertainty?.distributions?.[quantity];
      if (!known || value == null || Number.isNaN(value)) continue;
      const bin = known.edges.filter((edge) => edge < value).length;
      const share = (shares) => percent(Math.round(shares.reduce((sum, one) => sum + one, 0) * 10) / 10);
      const [less, more] = [share(known.shares.slice(0, bin)), share(known.shares.slice(bin + 1))];
      const words = bin === 0 ? `small: less than for ${more}` : `${bin === known.edges.length ? "unusual" : "usual"}: more than for ${less}`;
      return `The disagreement is ${words} of the validation rows.`;
    }
    return null;
  }

  showSweep(question, { answer, draws }, steady) {
    const { grid, dimension, state, index } = question;
    const x = state.values[index];
    const content = this.regression ? this.regressionCurves(question, answer, draws) : this.classCurves(question, answer, draws);
    this.chart ??= new Chart(this.frame, {
      picked: (value) => this.pick(value),
      pointed: (place) => this.point(place),
    });
    this.content = { ...content, x: grid, trained: dimension.trained ?? null, marker: { x, y: content.here } };
    this.chart.show(this.content, { steady });
    if (this.subject.kind === "picture") this.showPictures(question);
    const label = `${content.label} over ${dimension.label}`;
    this.frame.setAttribute("aria-label", `Chart. ${described(grid, label)}. The table below has its numbers.`);
    fill(this.legend, content.legend.map(([kind, text]) => h("li", { class: kind }, h("span", { class: "swatch", "aria-hidden": "true" }), text)));
    fill(this.tableHead, h("tr", null, [dimension.label, ...content.columns].map((name) => h("th", { scope: "col" }, name))));
    const places = Array.from({ length: PLACES }, (_, place) => Math.round((place * (grid.length - 1)) / (PLACES - 1)));
    fill(this.table, places.map((place) => h("tr", null, h("th", { scope: "row" }, number(grid[place])), content.figures(place).map((text) => h("td", null, text)))));
    this.point(null);
  }

  /** Below the axis, what the picture looks like there. */
  showPictures({ state, index, grid }) {
    const { pixels } = this.subject;
    const { left, right } = this.chart.margins;
    Object.assign(this.small.style, { paddingLeft: `${left}px`, paddingRight: `${right}px` });
    fill(this.small, Array.from({ length: PLACES }, (_, place) => {
      const value = grid[Math.round((place * (grid.length - 1)) / (PLACES - 1))];
      const canvas = h("canvas", { width: pixels.width, height: pixels.height });
      pixels.paint(canvas, this.subject.row(moved(state, index, value)), colour("--pixel"));
      return canvas;
    }));
  }

  regressionCurves({ state, summary, curves }, answer, draws) {
    const output = state.output ?? 0;
    const column = (matrix) => matrix?.slice(1).map((row) => row[output]) ?? null;
    const [mean, std, epistemic] = [answer.mean, answer.std, answer.epistemic_std].map(column);
    const { kind } = answer.interval;
    const interval = { lower: column(answer.interval.lower), upper: column(answer.interval.upper) };
    const width = WIDTHS[summary.interval];
    const around = (spread) => spread && { upper: mean.map((one, i) => one + width * spread[i]), lower: mean.map((one, i) => one - width * spread[i]) };
    const total = kind === "predictive" ? interval : kind === "conformal" ? around(std) : null;
    const name = this.labels[output];
    const level = percent(summary.interval);
    return {
      label: name, here: answer.mean[0][output], total,
      conformal: kind === "conformal" ? interval : null,
      first: { mean, ...(around(epistemic) ?? {}) },
      curves: draws.map((rows) => rows.slice(1).map((row) => row[output])),
      legend: [
        ["line-first", "mean"],
        ["band-first", `epistemic, ± ${width.toFixed(2)} std`],
        ...(total ? [["band-total", `total, ${level}`]] : []),
        ...(kind === "conformal" ? [["conformal", `conformal, ${level}`]] : []),
        ["curve", counted(Math.min(draws.length, curves.samples), "thinned network")],
      ],
      columns: ["Mean", "Epistemic ±", "Total ±", `${level} from`, "to"],
      figures: (at) => [number(mean[at]), number(epistemic?.[at]), number(std?.[at]), number(interval.lower?.[at]), number(interval.upper?.[at])],
      told: (at) => `${name} ${pair(mean[at], std?.[at]).filter(Boolean).join(" ± ")}`,
    };
  }

  /** The class that is asked about, and of many classes those that come closest to it somewhere on the way. */
  classCurves({ curves }, answer, draws) {
    const [probabilities, std] = [answer.probabilities.slice(1), answer.std?.slice(1)];
    const peaks = this.labels.map((_, index) => Math.max(...probabilities.map((row) => row[index])));
    const rivals = this.labels.length === 2 ? [] : peaks.map((_, index) => index).filter((index) => index !== this.winner && peaks[index] > 0.2)
      .sort((a, b) => peaks[b] - peaks[a]).slice(0, 2);
    const curve = (index) => index != null && {
      mean: probabilities.map((row) => row[index]),
      upper: std?.map((row, i) => Math.min(1, probabilities[i][index] + row[index])),
      lower: std?.map((row, i) => Math.max(0, probabilities[i][index] - row[index])),
    };
    const shown = [this.winner, ...rivals];
    const names = ["first", "second", "third"];
    return {
      label: `Probability of ${this.labels[this.winner]}`, here: answer.probabilities[0][this.winner], bounds: [0, 1],
      ...Object.fromEntries(shown.map((index, place) => [names[place], curve(index)])),
      curves: draws.map((rows) => rows.slice(1).map((row) => row[this.winner])),
      legend: [
        ...shown.map((index, place) => [`line-${names[place]}`, this.labels[index]]),
        ["band-first", "± one standard deviation"],
        ["curve", `${counted(Math.min(draws.length, curves.samples), "thinned network")} on ${this.labels[this.winner]}`],
      ],
      columns: shown.flatMap((index) => [this.labels[index], "±"]),
      figures: (at) => shown.flatMap((index) => [percent(probabilities[at][index]), std ? (100 * std[at][index]).toFixed(1) : "–"]),
      told: (at) => shown.map((index) => `${this.labels[index]} ${percent(probabilities[at][index])}`).join(" · "),
    };
  }

  pick(value) {
    const { dimension, index, state } = this.question;
    const snapped = Number((Math.round(value / dimension.step) * dimension.step).toPrecision(6));
    this.change({ values: state.values.with(index, Math.min(Math.max(snapped, dimension.low), dimension.high)) });
  }

  point(place) {
    const { dimension } = this.question ?? {};
    this.readout.textContent = place == null || !this.content ? "" : `${dimension.label} ${number(this.content.x[place])}: ${this.content.told(place)}`;
  }
}

function select(label, options, changed) {
  const id = idOf(label);
  const list = h("select", { id, onchange: () => changed(list.value) }, options.map(([value, text]) => h("option", { value }, text)));
  return {
    element: h("span", { class: "select" }, h("label", { for: id }, label), list),
    show: (value) => {
      if (value != null) list.value = value;
    },
  };
}
