/** Where the parts of the page meet: the address and the controls make a question, its answer is shown. */

import { AnswerView } from "./answer.js";
import { Asking } from "./asking.js";
import { calibrationView } from "./calibration.js";
import { themed } from "./colours.js";
import { fill, forgetIds, h } from "./dom.js";
import { examplesFor } from "./examples.js";
import { factsView } from "./facts.js";
import { questionForm } from "./form.js";
import { questionOf } from "./question.js";
import { Reproduce } from "./reproduce.js";
import { Problem, Unreachable, manifest as manifestOf, models as modelsOf } from "./service.js";
import { addressOf, modelIn, shortDigest, stateIn, VIEWS } from "./state.js";
import { subjectOf } from "./subjects.js";
import { tabs } from "./tabs.js";
import { dismissed, mended, told, trouble } from "./trouble.js";
import { counted, listed, whole } from "./words.js";

const SETTLED = 250; // milliseconds without a change, after which the address follows
const PATIENCE = 3000; // milliseconds between looks for a service, or for its first model

const at = (id) => document.getElementById(id);
let page = null; // of one model: its manifest, subject, state and views
let address = ""; // as this page has written it
let writing = 0;
let choosing = 0;

const asking = new Asking({ shown, failed, mended });

at("starting").remove();
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
  const again = () => turn === choosing && open(said);
  try {
    const models = await modelsOf();
    if (turn !== choosing) return;
    if (!models.length) {
      trouble("No models are being served yet. Publish one into the store; this page will find it.", { kind: "note", dismissable: false });
      setTimeout(again, PATIENCE);
      return;
    }
    const asked = modelIn(said);
    const known = models.find((model) => model.name === asked.name);
    const { name } = known ?? models.find((model) => model.task === "regression") ?? models[0];
    const manifest = await manifestOf(name, known?.versions.includes(asked.version) ? asked.version : null);
    if (turn !== choosing) return;
    showModels(models, manifest);
    const ignored = build(manifest, said);
    const notes = notesOn(asked, known, manifest, ignored);
    if (notes.length) trouble(notes.join(" "), { kind: "note" });
  } catch (error) {
    if (turn !== choosing) return;
    trouble(told(error), { again: () => open(said), key: error.wantsKey });
    if (error instanceof Unreachable) setTimeout(again, PATIENCE);
  }
}

/** Where a link asks for something else than what is shown. */
function notesOn(asked, known, manifest, ignored) {
  const { name, version } = manifest;
  const cut = (text) => `“${text.slice(0, 80)}”`;
  return [
    asked.name && !known ? `There is no model named ${cut(asked.name)}; showing ${name} instead.` : null,
    known && asked.version && asked.version !== version ? `There is no version ${cut(asked.version)} of ${name}; showing version ${version} instead.` : null,
    known && asked.digest && asked.digest !== shortDigest(manifest) ? `This link was made with another version of ${name}: the numbers may differ.` : null,
    ignored.length ? `This link’s ${listed(ignored.map(cut))} ${ignored.length > 1 ? "don’t" : "doesn’t"} fit ${name}; using the default${ignored.length > 1 ? "s" : ""} instead.` : null,
  ].filter(Boolean);
}

function showModels(models, manifest) {
  const links = models.map((model) =>
    h("a", { href: `#model=${encodeURIComponent(model.name)}`, "aria-current": model.name === manifest.name ? "page" : null }, model.name));
  const list = fill(at("models"), links);
  const current = links.find((link) => link.hasAttribute("aria-current"));
  if (current) list.scrollLeft = current.offsetLeft - (list.clientWidth - current.offsetWidth) / 2;
}

/** Makes the page of a model, in the state that an address describes. Returns the names of what makes no sense in it. */
function build(manifest, said) {
  asking.stop();
  dismissed();
  forgetIds();
  const subject = subjectOf(manifest);
  const { state, ignored } = stateIn(said, manifest, subject);
  if (subject.kind === "picture") state.image ??= examplesFor(subject).pictures[0]?.[1] ?? subject.pixels.blank;
  document.title = `${manifest.name} · Penumbra`;
  const views = Object.fromEntries(VIEWS.map((view) => [view, h("div", { class: `view view-${view}` })]));
  const bar = tabs({ answer: "Answer", calibration: "Calibration", model: "Model" }, views, (view) => change({ view }));
  fill(at("answer"), bar.element, Object.values(views));
  const form = questionForm({ inputs: at("inputs"), committee: at("committee") }, manifest, subject, change);
  const answer = new AnswerView(views.answer, manifest, subject, change);
  const copying = new Reproduce(at("reproduce"), { link: write, spoken });
  views.calibration.append(...calibrationView(manifest).filter(Boolean));
  views.model.append(...factsView(manifest).filter(Boolean));
  at("room").hidden = at("claim").hidden = false;

  page = {
    manifest, subject, state, answer, copying, bar, form,
    redraw() {
      form.repaint();
      answer.redraw();
    },
  };
  stale(false);
  bar.show(state.view);
  form.show(state);
  form.repaint();
  copying.show(questionOf(state, manifest, subject));
  write();
  asking.ask(questionOf(state, manifest, subject), { live: true });
  return ignored;
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
  stale(false);
  bar.grown(step.answer.samples, question.summary.samples);
  at("brief").textContent = answer.brief;
  at("answer").dataset.shown = addressOf(question.state, question.manifest);
  at("answer").dataset.samples = step.answer.samples;
  at("answer").dataset.done = step.done && !asking.wanted; // of a question that is overtaken nobody waits for the end
  if (step.done) spoken(answer.spoken);
}

function failed(error, { summary }, samples) {
  at("answer").dataset.done = false;
  const before = Boolean(page.last) && !samples;
  const far = samples ? ` What you see is the answer of the first ${whole(samples)} of ${counted(summary.samples, "sample")}.` : before ? " What you see is the previous answer." : "";
  const useless = error instanceof Problem && error.status < 500 && !error.wantsKey;
  stale(before);
  trouble(told(error) + far, { again: useless ? null : () => asking.again(), key: error.wantsKey });
}

/** Whether the answer on the page is that of an earlier question. */
function stale(yes) {
  at("answer").classList.toggle("stale", yes);
  at("brief").hidden = yes;
}

function spoken(words) {
  at("spoken").textContent = words;
}
