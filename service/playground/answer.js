/** The answer as people see it: a sentence, what the doubt consists of, and the sweep. */

import { ballot, committee, doubt } from "./committee.js";
import { fill, h } from "./dom.js";
import { voters } from "./question.js";
import { Sweep } from "./sweep.js";
import { number, pair, percent, whole } from "./words.js";

export class AnswerView {
  /** In an element; `change(part)` is called with what somebody changed in the picture itself. */
  constructor(element, manifest, subject, change) {
    this.manifest = manifest;
    this.regression = manifest.task === "regression";
    this.labels = manifest.outputs.map((output) => output.name);
    this.head = h("div", { class: "head" });
    this.figure = h("div", { class: "doubt" });
    this.votes = h("div", { class: "votes" });
    this.sweep = new Sweep(manifest, subject, change);
    fill(element, h("div", { class: "summary" }, this.head, this.figure), this.regression ? null : this.votes, this.sweep.element);
  }

  /** Shows a step of growth. `steady`: the picture is the same but for what moved in it. */
  show(question, step, { steady }) {
    this.question = question;
    this.step = step;
    const leader = this.regression ? this.showRegression(question, step) : this.showClassification(question, step);
    this.sweep.show(question, step, { leader, steady });
  }

  /** The sentence that is read aloud when an answer is complete. */
  get spoken() {
    return this.sentence;
  }

  redraw() {
    this.sweep.redraw();
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
    const holds = { predictive: "of observations should lie between", conformal: "of observations lie between", epistemic: "of the networks’ means lie between" }[kind];
    const nothing = kind === "conformal" ? `Calibration had too few rows for an interval of ${percent(summary.interval)}.` : "One network alone has no spread.";
    const interval = low == null || high == null ? nothing : `${percent(summary.interval)} ${holds} ${from} and ${to}${kind === "conformal" ? " (conformally calibrated)" : ""}.`;
    this.sentence = `${name}: ${value}${spread ? ` plus or minus ${spread}` : ""}${units ? ` ${units}` : ""}. ${interval}`;
    this.brief = spread ? `${value} ± ${spread}` : value;
    fill(this.head,
      h("p", { class: "what" }, name),
      h("p", { class: "value" }, value, spread ? h("span", { class: "spread" }, ` ± ${spread}`) : null, units ? h("span", { class: "units" }, ` ${units}`) : null),
      h("p", { class: "meaning" }, interval, h("span", { class: "quiet" }, ` ${this.undropped} ${pair(full.mean[0][output], std)[0]}. `,
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
    const networks = `${whole(all)} ${voters(state, all)}`;
    const agree = others.length ? `${whole(votes[winner])} of ${networks} vote for it; ${rest}.` : all === 1 ? `The only ${voters(state, 1)} votes for it.` : `All ${networks} vote for it.`;
    const chance = answer.probabilities[0][winner];
    this.sentence = `${label}, with a probability of ${percent(chance)}. ${agree}`;
    const likely = answer.prediction_set?.[0] ? ` ${percent(summary.interval)} prediction set: ${answer.prediction_set[0].join(", ") || "empty"}.` : "";
    this.brief = `${label} ${percent(chance)}`;
    const alone = full.labels[0];
    const its = percent(full.probabilities[0][this.labels.indexOf(alone)]);
    fill(this.head,
      h("p", { class: "what" }, "The committee says"),
      h("p", { class: "value" }, label, h("span", { class: "spread" }, ` ${percent(chance)}`)),
      h("p", { class: "meaning" }, agree, likely, h("span", { class: "quiet" }, ` ${this.undropped} ${alone} with ${its}. `,
        this.unusual({ predictive_entropy: answer.predictive_entropy[0], mutual_information: answer.mutual_information?.[0] }))),
    );
    fill(this.votes, ballot(votes, this.labels), committee(answer, draws, this.labels));
    const most = Math.log(this.labels.length);
    const [expected, mutual] = [answer.expected_entropy[0], answer.mutual_information?.[0] ?? null];
    doubt(this.figure, {
      title: "Where the doubt comes from", whole: `${number(answer.predictive_entropy[0])} of ${number(most)} nats`, unit: "nats",
      parts: [
        { kind: "epistemic", name: "Mutual information", value: mutual, share: (mutual ?? 0) / most, meaning: "the networks disagree" },
        { kind: "aleatoric", name: "Expected entropy", value: expected, share: expected / most, meaning: "each network is unsure" },
      ],
    });
    return winner;
  }

  /** What the answer of predict is called: that of the network, or the mean of the members', without dropout. */
  get undropped() {
    const { members } = this.manifest;
    return members?.length ? `Without dropout, the mean of the ${members.length} members says` : "The full network alone says";
  }

  /** Where this row stands among those that the model was validated on. */
  unusual(found) {
    for (const [quantity, value] of Object.entries(found).reverse()) {
      const known = this.manifest.uncertainty?.distributions?.[quantity];
      if (!known || value == null || Number.isNaN(value)) continue;
      const bin = known.edges.filter((edge) => edge < value).length;
      const share = (shares) => percent(Math.round(shares.reduce((sum, one) => sum + one, 0) * 10) / 10);
      const [less, more] = [share(known.shares.slice(0, bin)), share(known.shares.slice(bin + 1))];
      const words = bin === 0 ? `little: less than on ${more}` : `${bin === known.edges.length ? "unusually much" : "as usual"}: more than on ${less}`;
      return `The networks disagree ${words} of the validation rows.`;
    }
    return null;
  }
}
