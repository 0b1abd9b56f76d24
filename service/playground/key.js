/** The caller's key, where the service wants one: kept until this tab is closed, in no link and no command. */

import { h } from "./dom.js";

const KEY = "penumbra.key";

let key = stored();

/** Whether one was given. */
export const hasKey = () => Boolean(key);

/** What a request has to say of it. */
export const credentials = () => (key ? { Authorization: `Bearer ${key}` } : {});

/** A form that asks for one; `given()` once it is there. */
export function keyForm(given) {
  const field = h("input", { type: "password", name: "key", required: true, autocomplete: "off", spellcheck: "false", pattern: "[!-~]+", title: "without spaces", "aria-label": "API key" });
  const use = (event) => {
    event.preventDefault();
    keep(field.value);
    given();
  };
  return h("form", { class: "key", onsubmit: use }, field, h("button", { type: "submit" }, "Unlock"));
}

function keep(text) {
  key = text;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // A browser that keeps nothing forgets it with the page.
  }
}

function stored() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}
