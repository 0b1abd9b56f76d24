/** The sweep as people see it: a chart over one dimension, its legend, small pictures, and a table of the same numbers. */

import { Chart, described } from "./chart.js";
import { colour } from "./colours.js";
import { classOf } from "./committee.js";
import { select } from "./controls.js";
import { classCurves, regressionCurves } from "./curves.js";
import { fill, h } from "./dom.js";
import { moved } from "./subjects.js";
import { plain } from "./words.js";

const PLACES = 9; // rows of the table, and small pictures

export class Sweep {
  /** `change(part)` is called with what somebody changed in the picture itself. `element` is null where nothing can be swept. */
  constructor(manifest, subject, change) {
    Object.assign(this, { manifest, subject, change });
    const regression = manifest.task === "regression";
    this.curves = regression ? regressionCurves : classCurves;
    this.table = h("tbody");
    this.tableHead = h("thead");
    this.readout = h("p", { class: "readout", "aria-hidden": "true" });
    this.legend = h("ul", { class: "legend" });
    this.frame = h("div", { class: "chart", role: "img" });
    this.small = h("div", { class: "small-pictures", "aria-hidden": "true" });
    this.over = select("Sweep over", subject.sweepable.map((one) => [one.name, one.label]), (sweep) => change({ sweep }));
    const outputs = manifest.outputs.map(({ name }, index) => [String(index), name]);
    this.output = select(regression ? "Output" : "Probability of", regression ? outputs : [["", "the leading class"], ...outputs],
      (text) => change({ output: text === "" ? null : Number(text) }));
    this.element = subject.sweepable.length ? this.section(!regression || outputs.length > 1) : null;
  }

  section(chooses) {
    return h("section", { class: "sweep", "aria-label": "Sweep" },
      h("div", { class: "sweep-head" }, h("h3", null, "Sweep"), chooses ? this.output.element : null, this.over.element),
      h("div", null, this.frame, this.small),
      h("div", { class: "under" }, this.legend, this.readout),
      h("details", { class: "as-table" }, h("summary", null, "The sweep as a table"),
        h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The sweep as a table" }, h("table", null, this.tableHead, this.table))));
  }

  redraw() {
    this.chart?.redraw();
  }

  /** Shows a step of growth; `leader` is the class that leads, if there are classes. */
  show(question, step, { leader, steady }) {
    const { grid, dimension, state, index } = question;
    if (!this.element || !dimension) return;
    this.question = question;
    this.over.show(state.sweep);
    this.output.show(state.output == null ? "" : String(state.output));
    const content = this.curves(question, step, state.output ?? leader ?? 0);
    this.chart ??= new Chart(this.frame, { picked: (value) => this.pick(value), pointed: (place) => this.point(place) });
    this.content = { ...content, x: grid, trained: dimension.trained ?? null, marker: { x: state.values[index], y: content.here } };
    this.chart.show(this.content, { steady });
    if (this.subject.kind === "picture") this.showPictures(question);
    this.frame.setAttribute("aria-label", `Chart. ${described(grid, `${content.label} over ${dimension.label}`)}. The table below has its numbers.`);
    fill(this.legend, content.legend.map(([kind, text, index]) =>
      h("li", { class: index == null ? kind : `${kind} ${classOf(index)}` }, h("span", { class: "swatch", "aria-hidden": "true" }), text)));
    fill(this.tableHead, h("tr", null, [dimension.label, ...content.columns].map((name) => h("th", { scope: "col" }, name))));
    fill(this.table, places(grid).map((place) => h("tr", null, h("th", { scope: "row" }, plain(grid[place])), content.figures(place).map((text) => h("td", null, text)))));
    this.point(null);
  }

  /** Below the axis, what the picture looks like there. */
  showPictures({ state, index, grid }) {
    const { pixels } = this.subject;
    const { left, right } = this.chart.margins;
    Object.assign(this.small.style, { paddingLeft: `${left}px`, paddingRight: `${right}px` });
    fill(this.small, places(grid).map((place) => {
      const canvas = h("canvas", { width: pixels.width, height: pixels.height });
      pixels.paint(canvas, this.subject.row(moved(state, index, grid[place])), colour("--pixel"));
      return canvas;
    }));
  }

  pick(value) {
    const { dimension, index, state } = this.question;
    const snapped = Number((Math.round(value / dimension.step) * dimension.step).toPrecision(6));
    this.change({ values: state.values.with(index, Math.min(Math.max(snapped, dimension.low), dimension.high)) });
  }

  point(place) {
    const { dimension } = this.question ?? {};
    this.readout.textContent = place == null || !this.content ? "" : `${dimension.label} ${plain(this.content.x[place])}: ${this.content.told(place)}`;
  }
}

const places = (grid) => Array.from({ length: PLACES }, (_, place) => Math.round((place * (grid.length - 1)) / (PLACES - 1)));
