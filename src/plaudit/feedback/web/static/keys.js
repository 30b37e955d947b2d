// The keys that can be changed or switched off, and the dialog that says so.

import { store } from "./page.js";

const WORDS = {
  skip: ["s", "Skip"], all_bad: ["x", "All bad"], flag: ["f", "Flag"], edit: ["e", "Edit"], undo: ["u", "Undo the last one"],
  reveal: ["v", "Show or hide a covered text"], guidelines: ["g", "Guidelines"], accept: ["a", "Accept (review)"],
  reject: ["r", "Reject (review)"], help: ["?", "This help"],
};
const usual = Object.fromEntries(Object.entries(WORDS).map(([name, [key]]) => [name, key]));
let map = { ...usual, ...store.get("keys", {}) };
let on = store.get("keys-on", true);

export const keysOn = () => on;
export const actionOf = (key) => Object.keys(map).find((name) => map[name] === key.toLowerCase());

export function label(root = document) {
  for (const mark of root.querySelectorAll("kbd[data-key]")) {
    mark.textContent = map[mark.dataset.key];
    mark.hidden = !on;
  }
}

export function setUp() {
  const dialog = document.getElementById("help");
  const fields = document.getElementById("keymap");
  const toggle = document.getElementById("keys-on");
  toggle.checked = on;
  toggle.addEventListener("change", () => { on = toggle.checked; store.set("keys-on", on); label(); });
  const draw = () => {
    fields.replaceChildren(...Object.entries(WORDS).map(([name, [, words]]) => {
      const line = document.createElement("label");
      const field = Object.assign(document.createElement("input"), { value: map[name], maxLength: 1, autocomplete: "off" });
      field.addEventListener("input", () => {
        const key = field.value.trim().toLowerCase();
        const taken = /[0-9]/.test(key) || Object.keys(map).some((other) => other !== name && map[other] === key);
        field.setAttribute("aria-invalid", String(!key || taken));
        if (!key || taken) return;
        map[name] = key;
        store.set("keys", map);
        label();
      });
      field.addEventListener("focus", () => field.select());
      field.addEventListener("blur", () => { field.value = map[name]; });
      line.append(words, field);
      return line;
    }));
  };
  draw();
  document.getElementById("keys-reset").addEventListener("click", () => {
    map = { ...usual };
    store.remove("keys");
    draw();
    label();
  });
  document.addEventListener("click", (event) => { if (event.target.closest("[data-help]")) open(); });
  const open = () => { if (!dialog.open) dialog.showModal(); };
  label();
  return open;
}
