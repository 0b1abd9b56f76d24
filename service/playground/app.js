/** Where the parts of the page meet: the address and the controls make a question, its answer is shown. */

import { AnswerView } from "./answer.js";
import { Asking } from "./asking.js";
import { calibrationView } from "./calibration.js";
import { themed } from "./colours.js";
import { fill, forgetIds, h } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { factsView } from "./facts.js";
import { questionForm } from "./form.js";
import { keyForm } from "./key.js";
import { questionOf } from "./question.js";
import { Reproduce } from "./reproduce.js";
import { Problem, Unreachable, manifest as manifestOf, models as modelsOf } from "./service.js";
import { addressOf, modelIn, shortDigest, stateIn, VIEWS } from "./state.js";
import { subjectOf } from "./subjects.js";
import { tabs } from "./tabs.js";
import { counted, whole } from "./words.js";

const SETTLED = 250; // milliseconds without a change, after which the address follows

const at = (id) => document.getElementById(id);
let page = null; // of one model: its manifest, subject, state and views
let address = ""; // as this page has written it
let writing = 0;
let choosing = 0;

const asking = new Asking({ shown, failed, mended });

themed(at("theme"), () => page?.redraw());
at("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is taken
  at("answer").focus();
});
new IntersectionObserver(([seen]) => at("brief").classList.toggle("away", !seen.isIntersecting)).observe(at("answer"));
await document.fonts.load("12px Inter"); // a canvas does not wait for it
addEventListener("hashchange", () => location.hash !== address && open(location.hash));
await open(location.hash);

/** Opens what an address describes. */
async function open(said) {
  const turn = (choosing += 1);
  try {
    const models = await modelsOf();
    if (!models.length) throw new Problem(503, { detail: "This service has no model that is ready." });
    const asked = modelIn(said);
    const known = models.find((model) => model.name === asked.name);
    const { name } = known ?? models.find((model) => model.task === "regression") ?? models[0];
    const manifest = await manifestOf(name, known?.versions.includes(asked.version) ? asked.version : null);
    if (turn !== choosing) return;
    showModels(models, manifest);
    build(manifest, said);
    const notes = [
      asked.name && !known ? `There is no model ${asked.name.slice(0, 80)} here: this is ${name}.` : null,
      known && asked.version && asked.version !== manifest.version ? `There is no version ${asked.version.slice(0, 80)} of it any more: this is ${manifest.version}.` : null,
      known && asked.digest && asked.digest !== shortDigest(manifest) ? "This link was made with another version of this model: the numbers may differ." : null,
    ].filter(Boolean);
    if (notes.length) trouble(notes.join(" "), { kind: "note" });
  } catch (error) {
    if (turn === choosing) trouble(told(error), { again: () => open(said), key: error.wantsKey });
  }
}

function showModels(models, manifest) {
  fill(at("models"), models.map((model) =>
    h("a", { href: `#model=${encodeURIComponent(model.name)}`, "aria-current": model.name === manifest.name ? "page" : null }, model.name)));
}

function build(manifest, said) {
  asking.stop();
  dismissed();
  forgetIds();
  const subject = subjectOf(manifest);
  const state = stateIn(said, manifest, subject);
  if (subject.kind === "picture" && state.image == null) {
    state.image = subject.digits ? subject.pixels.enlarged(EXAMPLES[0][1]) : subject.pixels.blank;
  }
  document.title = `${manifest.name} · Penumbra`;
  const views = Object.fromEntries(VIEWS.map((view) => [view, h("div", { class: `view view-${view}` })]));
  const bar = tabs({ answer: "Answer", calibration: "Calibration", model: "Model" }, views, (view) => change({ view }));
  fill(at("answer"), bar.element, Object.values(views));
  const form = questionForm({ inputs: at("inputs"), committee: at("committee") }, manifest, subject, change);
  const answer = new AnswerView(views.answer, manifest, subject, change);
  const copying = new Reproduce(at("reproduce"), { link: write, spoken });
  views.calibration.append(...calibrationView(manifest).filter(Boolean));
  views.model.append(...factsView(manifest).filter(Boolean));

  page = {
    manifest, subject, state, answer, copying, bar, form,
    redraw() {
      form.repaint();
      answer.redraw();
    },
  };
  bar.show(state.view);
  form.show(state);
  form.repaint();
  copying.show(questionOf(state, manifest, subject));
  write();
  asking.ask(questionOf(state, manifest, subject), { live: true });
}

/** Somebody changed a part of the state. */
function change(part, { live = false } = {}) {
  const { manifest, subject, form, bar, copying } = page;
  const before = page.state;
  page.state = { ...before, ...part };
  form.show(page.state);
  bar.show(page.state.view);
  clearTimeout(writing);
  writing = setTimeout(write, SETTLED);
  if (Object.keys(part).join() === "view") return;
  const question = questionOf(page.state, manifest, subject);
  at("answer").dataset.done = false;
  copying.show(question);
  asking.ask(question, { live });
}

/** Brings the address up to date, and returns it. */
function write() {
  address = addressOf(page.state, page.manifest);
  history.replaceState(null, "", address);
  return location.href;
}

function shown(question, step) {
  const { answer, bar, last } = page;
  // The scale stays while the same curves move or grow; another sweep gets its own.
  const steady = ["sweep", "output", "dropout"].every((part) => last?.[part] === question.state[part]);
  answer.show(question, step, { steady });
  page.last = question.state;
  bar.grown(step.answer.samples, question.summary.samples);
  at("brief").textContent = answer.brief;
  at("answer").dataset.shown = addressOf(question.state, question.manifest);
  at("answer").dataset.samples = step.answer.samples;
  at("answer").dataset.done = step.done && !asking.wanted; // of a question that is overtaken nobody waits for the end
  if (step.done) spoken(answer.spoken);
}

function failed(error, { summary }, samples) {
  at("answer").dataset.done = false;
  const far = samples ? `What you see is the answer of the first ${whole(samples)} of ${counted(summary.samples, "sample")}.` : "What you see is the last answer.";
  const shows = error instanceof Problem && error.status < 500 ? "" : page.last ? ` ${far}` : "";
  const useless = error instanceof Problem && error.status < 500 && !error.wantsKey;
  trouble(`${told(error)}${shows}`, { again: useless ? null : () => asking.again(), key: error.wantsKey });
}

function told(error) {
  if (error instanceof Problem) return `The service says: ${error.message}${/[.!?]$/.test(error.message) ? "" : "."}`;
  if (!(error instanceof Unreachable)) throw error; // a bug of ours
  return "The service stopped answering. This page goes on by itself once it is back.";
}

function trouble(words, { again = null, key = false, kind = "error" } = {}) {
  const box = at("trouble");
  box.className = `trouble ${kind}`;
  const remedy = key ? keyForm(again) : again ? h("button", { type: "button", onclick: again }, "Try again") : null;
  fill(box, h("p", null, words), remedy,
    kind === "note" ? h("button", { type: "button", class: "plain", onclick: dismissed }, "Dismiss") : null);
  box.hidden = false;
  if (key) box.querySelector("input").focus();
}

function mended() {
  if (at("trouble").classList.contains("error")) dismissed();
}

function dismissed() {
  at("trouble").hidden = true;
}

function spoken(words) {
  at("spoken").textContent = words;
}
