/** The sweep as a chart: bands, thinned networks, lines over one dimension. Knows nothing of where numbers come from. */
/* global uPlot */

import { colour } from "./colours.js";
import { CURVES } from "./question.js";
import { plain } from "./words.js";

// From back to front. Each band is two series with what lies between them filled.
const BANDS = ["total", "first", "second", "third"];
const LINES = ["third", "second", "first"];
const LABELS = { size: 12, family: "Inter, system-ui, sans-serif" };
const SHARES = { first: 24, second: 18, third: 18, curve: 30 }; // per cent: bands and curves of what has a colour of its own
const LEAST_FILLED = 0.55; // of the height, before the scale is drawn closer

export class Chart {
  /** In an element that is there already; `picked` is called with the x that somebody clicked on, `pointed` with an index. */
  constructor(element, { picked, pointed }) {
    this.element = element;
    this.content = null;
    const series = [{}];
    const bands = [];
    for (const name of BANDS) {
      bands.push({ series: [series.length, series.length + 1], fill: () => this.hue(name, `--band-${name}`, SHARES[name]) });
      series.push(invisible(), invisible());
    }
    for (const _ of ["upper", "lower"]) series.push(line(() => colour("--conformal"), 1.5, [5, 4]));
    for (let i = 0; i < CURVES; i += 1) series.push(line(() => this.hue("first", "--curve", SHARES.curve), 1));
    for (const name of LINES) series.push(line(() => this.hue(name, "--line-mean"), name === "first" ? 2.25 : 1.75));
    const font = `${LABELS.size}px ${LABELS.family}`;
    const axis = {
      stroke: () => colour("--quiet"), font, gap: 6, ticks: { show: false },
      values: (_, splits) => splits.map((value) => plain(value, 6)),
    };
    this.plot = new uPlot(
      {
        ...this.size(), series, bands,
        padding: [22, 12, 0, 0],
        legend: { show: false },
        scales: { x: { time: false, range: () => this.wide ?? [0, 1] }, y: { range: () => this.high ?? [0, 1] } },
        axes: [
          { ...axis, grid: { show: false }, size: 30 },
          { ...axis, grid: { stroke: () => colour("--line"), width: 1 }, size: (_, values) => widest(values) },
        ],
        cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
        hooks: {
          drawClear: [() => this.drawTrained()],
          draw: [() => this.drawMarker()],
          setCursor: [(plot) => pointed(plot.cursor.idx ?? null)],
        },
      },
      [[], ...series.slice(1).map(() => [])],
      element,
    );
    this.plot.over.addEventListener("click", () => {
      if (this.plot.cursor.left >= 0) picked(this.plot.posToVal(this.plot.cursor.left, "x"));
    });
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(element);
  }

  /**
   * Shows x: numbers; total, first, second, third: {mean?, upper, lower, colour?}; conformal: {upper, lower}; curves: lists;
   * marker: {x, y}, x null if there is none; trained: [from, to] or null; bounds: the y that are possible; steady: keep the scale if it fits.
   */
  show(content, { steady }) {
    this.content = content;
    const { x } = content;
    this.wide = [x[0], x.at(-1)];
    this.high = scale(content, steady ? this.high : null);
    const nothing = x.map(() => null);
    const data = [x];
    for (const name of BANDS) data.push(content[name]?.upper ?? nothing, content[name]?.lower ?? nothing);
    data.push(content.conformal?.upper ?? nothing, content.conformal?.lower ?? nothing);
    for (let i = 0; i < CURVES; i += 1) data.push(content.curves[i] ?? nothing);
    for (const name of LINES) data.push(content[name]?.mean ?? nothing);
    this.plot.setData(data);
  }

  /** The colour of a part, or a share of it: its own, else the one with this name. */
  hue(part, otherwise, share) {
    const own = this.content?.[part]?.colour;
    return own ? colour(own, share) : colour(otherwise);
  }

  /** After the theme has changed. */
  redraw() {
    this.plot.redraw(false, true);
  }

  /** Between the element's sides and those of the drawing, in pixels. */
  get margins() {
    const { left, width } = this.plot.bbox;
    return { left: left / devicePixelRatio, right: this.element.clientWidth - (left + width) / devicePixelRatio };
  }

  size() {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  drawTrained() {
    const { ctx, bbox } = this.plot;
    ctx.save();
    ctx.fillStyle = colour("--beyond");
    ctx.fillRect(bbox.left, bbox.top, bbox.width, bbox.height);
    if (this.content) {
      const [from, to] = (this.content.trained ?? this.wide).map((x) => this.plot.valToPos(x, "x", true));
      const [left, right] = [Math.max(from, bbox.left), Math.min(to, bbox.left + bbox.width)];
      ctx.fillStyle = colour("--trained");
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
      if (this.content.trained) {
        ctx.fillStyle = colour("--quiet");
        ctx.font = `${11 * devicePixelRatio}px ${LABELS.family}`;
        ctx.textAlign = "left";
        ctx.textBaseline = "alphabetic";
        ctx.fillText("range seen in training", left, bbox.top - 8 * devicePixelRatio); // above, where no line crosses it
      }
    }
    ctx.restore();
  }

  drawMarker() {
    if (this.content?.marker.x == null) return;
    const { ctx, bbox } = this.plot;
    const x = this.plot.valToPos(this.content.marker.x, "x", true);
    const y = this.plot.valToPos(this.content.marker.y, "y", true);
    if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) return;
    ctx.save();
    ctx.strokeStyle = colour("--marker");
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.fillStyle = this.hue("first", "--line-mean");
    ctx.strokeStyle = colour("--trained");
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.beginPath();
    ctx.arc(x, y, 5.5 * devicePixelRatio, 0, 2 * Math.PI);
    ctx.fill();
    ctx.stroke();
    ctx.restore();
  }
}

const invisible = () => ({ stroke: "transparent", width: 0, points: { show: false } });
const line = (stroke, width, dash) => ({ stroke, width, dash, points: { show: false } });
const widest = (values) => 18 + 7 * Math.max(1, ...(values ?? []).map((value) => value.length));

/** From lowest to highest with some air; the scale of before, where it does, so that what moves is the picture. */
function scale(content, before) {
  if (content.bounds) return content.bounds;
  let [low, high] = [Infinity, -Infinity];
  const shown = [...BANDS.map((name) => content[name]), content.conformal].flatMap((one) => [one?.upper, one?.lower, one?.mean]);
  for (const list of [...shown, ...content.curves]) {
    for (const value of list ?? []) if (value != null) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  if (low > high) return before ?? [0, 1];
  const fits = before && low >= before[0] && high <= before[1] && high - low > LEAST_FILLED * (before[1] - before[0]);
  if (fits) return before;
  const air = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - air, high + air];
}

/** What somebody reads who can't see the chart. */
export const described = (x, label) => `${label}, from ${plain(x[0])} to ${plain(x.at(-1))}`;
