/** What stands in the way of an answer, told at the top of the page, with what can be done about it. */

import { fill, h } from "./dom.js";
import { hasKey, keyForm } from "./key.js";
import { Problem, Unreachable } from "./service.js";

const box = document.getElementById("trouble");

/** An error in words. What nobody foresaw is also reported to the browser, whose console has the rest. */
export function told(error) {
  if (error instanceof Unreachable) return "The service stopped answering. This page carries on once it is back.";
  if (!(error instanceof Problem)) {
    reportError(error);
    return faulty(error);
  }
  if (error.status === 401) return hasKey() ? "That key is not known." : "This service needs an API key (scopes read and infer). Paste yours:";
  return `The service says: ${error.message}${/[.!?]$/.test(error.message) ? "" : "."}`;
}

/** Shows words: an error, or a note that can be dismissed; `again` is what "Try again" does, `key` asks for a key first. */
export function trouble(words, { again = null, key = false, kind = key && !hasKey() ? "request" : "error", dismissable = kind === "note" } = {}) {
  box.className = `trouble ${kind}`;
  const remedy = key ? keyForm(again) : again ? h("button", { type: "button", onclick: again }, "Try again") : null;
  fill(box, h("p", null, words), remedy, dismissable ? h("button", { type: "button", class: "plain", onclick: dismissed }, "Dismiss") : null);
  box.hidden = false;
  if (key) box.querySelector("input").focus();
}

/** What stood in the way is over; a note stays. */
export function mended() {
  if (!box.classList.contains("note")) dismissed();
}

export function dismissed() {
  box.hidden = true;
}

// The last resort: whatever fails in this page is told, wherever it happens.
addEventListener("error", ({ error }) => error && box.hidden && trouble(faulty(error)));
addEventListener("unhandledrejection", ({ reason }) => trouble(faulty(reason)));

const faulty = (error) => `This page has a fault and can’t go on (${error?.message ?? error}). Another model, or loading it again, may help.`;
