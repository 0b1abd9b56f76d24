/** The commands that get what is on the screen, ready to be copied. Knows nothing of what they ask. */

import { fill, h } from "./dom.js";
import { asCurl, asPython } from "./question.js";

const LONGEST = 2000; // characters that are shown; all of them are copied
const NAMES = { curl: "curl", python: "Python" };

export class Reproduce {
  /** In an element; `link()` is the address of what is shown, `spoken(words)` says them aloud. */
  constructor(element, { link, spoken }) {
    this.spoken = spoken;
    this.language = "curl";
    this.code = h("code");
    this.inputs = Object.keys(NAMES).map((language) => h("label", null,
      h("input", { type: "radio", name: "language", value: language, checked: language === this.language, onchange: () => this.pick(language) }),
      h("span", null, NAMES[language])));
    this.copying = h("button", { type: "button", onclick: () => this.copy(this.text(), `the ${NAMES[this.language]} command`) });
    this.linking = h("button", { type: "button", onclick: () => this.copy(link(), "the link") }, "Copy link");
    this.note = h("p", { class: "quiet", id: "copied" });
    fill(element,
      h("h2", null, "Reproduce"),
      h("p", { class: "quiet" }, "The seed fixes the committee: this link and these commands give exactly what is shown here, now and later."),
      h("div", { class: "copying" },
        h("fieldset", { class: "segments" }, h("legend", { class: "unseen" }, "Language"), this.inputs), this.copying, this.linking, this.note),
      h("pre", { tabindex: "0", role: "region", "aria-label": "Command" }, this.code),
    );
    this.pick("curl");
  }

  show(question) {
    this.question = question;
    this.pick(this.language);
  }

  text() {
    return this.language === "curl" ? asCurl(this.question) : asPython(this.question);
  }

  pick(language) {
    this.language = language;
    this.copying.textContent = `Copy as ${NAMES[language]}`;
    this.note.textContent = "";
    if (!this.question) return;
    const text = this.text();
    this.code.textContent = text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text;
  }

  async copy(text, what) {
    this.note.textContent = (await copied(text)) ? `Copied ${what}.` : "This browser doesn’t let pages copy; select the text instead.";
    this.spoken(this.note.textContent);
  }
}

/** Over plain HTTP from another machine browsers have no clipboard; the old way still works there. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "unseen", value: text, readonly: true, "aria-hidden": "true" });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
