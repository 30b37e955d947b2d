// What every page has: short messages, forms that are sent once, and what is forgotten on signing out.

export const account = document.body.dataset.account;
export const csrf = document.body.dataset.csrf;

export function toast(words, seconds = 6) {
  const line = document.createElement("p");
  line.textContent = words;
  document.getElementById("toasts").append(line);
  setTimeout(() => line.remove(), seconds * 1000);
}

// localStorage may be full, or forbidden: what it does not take is remembered until the page is left, and counts before
// the older value that may still lie there.
const memory = new Map();
export const store = {
  get(key, otherwise) {
    if (memory.has(key)) return memory.get(key);
    try {
      const text = localStorage.getItem(`plaudit.${key}`);
      return text === null ? otherwise : JSON.parse(text);
    } catch { return otherwise; }
  },
  set(key, value) {
    try {
      localStorage.setItem(`plaudit.${key}`, JSON.stringify(value));
      memory.delete(key);
    } catch { memory.set(key, value); }
  },
  remove(key) {
    memory.delete(key);
    try { localStorage.removeItem(`plaudit.${key}`); } catch { /* nothing was there */ }
  },
  keys() {
    let stored = [];
    try { stored = Object.keys(localStorage).filter((k) => k.startsWith("plaudit.")).map((k) => k.slice(8)); } catch { /* forbidden */ }
    return [...new Set([...memory.keys(), ...stored])];
  },
};

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("[data-once]")) {
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
    const button = form.querySelector("[data-busy]");
    if (button) button.textContent = button.dataset.busy;
    toast(button?.dataset.busy ?? "Sending…", 60);
  }
  if (form.matches("[data-sign-out]")) {
    // drafts on a shared computer are nobody else's business; answers not yet sent stay
    store.keys().filter((key) => key.startsWith("draft.")).forEach((key) => store.remove(key));
  }
});

// Come back by the browser's own button: the form is to be had again.
window.addEventListener("pageshow", () => {
  document.querySelectorAll("[data-once]").forEach((form) => delete form.dataset.sent);
});
