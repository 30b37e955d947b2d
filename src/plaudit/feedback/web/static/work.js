// The work of an annotator without waiting: the next task is there before this one is sent, nothing is lost when the
// line goes down, and everything can be done by keys. Without this script the page works as plain forms.

import { actionOf, keysOn, label, setUp } from "./keys.js";
import { onChange, put, send, unsent } from "./outbox.js";
import { csrf, store, toast } from "./page.js";
import { rankingOf } from "./ranking.js";

const work = document.getElementById("work");
const place = work.dataset.place;
const openHelp = setUp();
const undoForm = document.getElementById("undo-form");
let task = null; // the form on the page
let ranking = null;
let seconds = 0; // on this task, hidden tabs not counted
let since = 0;
let ahead = null; // the next task's HTML, or the promise of it
let leaving = false;
const TYPING = "input:not([type=radio], [type=checkbox], [type=hidden]), textarea, select";

function say(words) {
  const line = document.getElementById("say");
  line.textContent = "";
  requestAnimationFrame(() => { line.textContent = words; });
}

// -- a task appears ---------------------------------------------------------------------------------------------------

function appear(isFirst) {
  task = document.getElementById("task");
  leaving = false;
  label(work);
  if (!task) { ranking = null; if (!isFirst) { say(work.querySelector("h1")?.textContent ?? ""); document.getElementById("main").focus(); } return; }
  restore();
  ranking = task.querySelector(".card[data-index]") ? rankingOf(task, say) : null;
  task.addEventListener("input", keep);
  task.addEventListener("change", keep);
  task.querySelectorAll(".edit").forEach((edit) => edit.addEventListener("toggle", () => opened(edit)));
  task.querySelector(".veil")?.addEventListener("toggle", (event) => event.target.open && !document.activeElement.matches(TYPING) && focusFirst());
  refresh();
  focusFirst();
  if (!isFirst) { window.scrollTo(0, 0); say(`Next: ${work.querySelector("h1").textContent}${ranking ? `, ${ranking.count} answers to rank` : ""}.`); }
  tellGuideline();
  ahead = null;
  if (!unsent().length) fetchAhead();
}

const covered = () => { const veil = task?.querySelector(".veil"); return veil !== null && veil !== undefined && !veil.open; };

function focusFirst() {
  if (covered()) task.querySelector(".veil summary").focus({ preventScroll: true });
  else if (ranking) ranking.focus(ranking.current, { preventScroll: true });
  else if (task.dataset.kind === "review") task.querySelector(".card").focus({ preventScroll: true });
  else task.querySelector("[data-draft]")?.focus({ preventScroll: true });
}

// A browser tells late that something was opened: whoever opened it by a key may be elsewhere by then.
function opened(edit) {
  const byKey = "byKey" in edit.dataset;
  delete edit.dataset.byKey;
  if (edit.open && !byKey) edit.querySelector("textarea").focus();
}

function tellGuideline() {
  const version = Number(task.dataset.guideline);
  const seen = store.get("guideline", 0);
  if (seen && version > seen) toast(`The guidelines have changed: this is version ${version}.`, 15);
  if (version > seen) store.set("guideline", version);
}

function refresh() {
  if (!task) return;
  const allBad = task.querySelector("[name=flag][value=all_bad]")?.checked;
  const text = task.querySelector("[data-draft]");
  const ready = !covered() && (ranking ? ranking.complete || allBad : text ? text.value.trim() !== "" : true);
  task.querySelectorAll("[data-submit]").forEach((button) => { button.disabled = !ready; });
  const words = task.querySelector("[data-words]");
  if (words) words.textContent = `${(text.value.trim().match(/\S+/g) ?? []).length} words.`;
  for (const edit of task.querySelectorAll(".edit")) {
    const area = edit.querySelector("textarea");
    edit.classList.toggle("changed", area.value.trim() !== area.defaultValue.trim());
  }
}

// -- drafts and time --------------------------------------------------------------------------------------------------

function keep() {
  refresh();
  const values = [...new FormData(task)].filter(([name]) => !["csrf", "seconds", "action"].includes(name));
  store.set(`draft.${task.dataset.token}`, { at: Date.now(), seconds: elapsed(), values });
}

function restore() {
  const draft = store.get(`draft.${task.dataset.token}`, null);
  seconds = draft?.seconds ?? 0;
  since = document.hidden ? 0 : performance.now();
  if (!draft) return;
  task.querySelectorAll("input[type=checkbox]").forEach((box) => { box.checked = false; });
  for (const [name, value] of draft.values) {
    for (const field of task.querySelectorAll(`[name="${CSS.escape(name)}"]`)) {
      if (field.type === "radio" || field.type === "checkbox") field.checked ||= field.value === value;
      else field.value = value;
    }
  }
}

function elapsed() { return seconds + (since ? (performance.now() - since) / 1000 : 0); }

document.addEventListener("visibilitychange", () => {
  if (document.hidden) { seconds = elapsed(); since = 0; if (task) keep(); } else since = performance.now();
});

function forgetOldDrafts() {
  for (const key of store.keys()) if (key.startsWith("draft.") && Date.now() - (store.get(key, {}).at ?? 0) > 48 * 3600e3) store.remove(key);
}

// -- sending, and what comes after ------------------------------------------------------------------------------------

function fetchAhead() {
  if (ahead || !task || task.dataset.kind === "live") return;
  const asked = fetch(`/${place}/next?after=${encodeURIComponent(task.dataset.token)}`)
    .then((answer) => (answer.status === 200 ? answer.text() : null)).catch(() => null);
  ahead = asked;
  asked.then((html) => { if (ahead === asked) ahead = html; });
}

async function submit(action) {
  if (leaving || !task) return;
  if (action === "submit" && task.querySelector("[data-submit]").disabled) { say(ranking ? ranking.missing : "Nothing is written yet."); return; }
  leaving = true; // a second click or Enter finds nothing to send
  const { token } = task.dataset;
  task.elements.seconds.value = elapsed().toFixed(2);
  const body = [...new FormData(task)].filter(([name]) => name !== "csrf");
  store.remove(`draft.${token}`);
  const arrival = put(token, [...body, ["action", action]]);
  const html = await ahead;
  ahead = null;
  if (html) { swap(html); arrival.then((arrived) => arrived && fetchAhead()); return; }
  if (place === "live") { if (await arrival) location.assign("/live"); else waitForLine(); return; }
  if (await arrival) await showNext();
  else waitForLine();
}

async function showNext() {
  try {
    const answer = await fetch(`/${place}/next`);
    if (answer.status === 401) { location.assign(`/sign-in?next=/${place}`); return; }
    swap(await answer.text());
  } catch { waitForLine(); }
}

function waitForLine() {
  const pane = document.createElement("div");
  pane.className = "panel centred";
  pane.dataset.waiting = "";
  pane.append(Object.assign(document.createElement("h1"), { textContent: "Waiting for the server" }),
    Object.assign(document.createElement("p"), { textContent: "What you have done is kept on this computer, and sent as soon as the line is back." }));
  work.replaceChildren(pane);
  task = ranking = null;
  if (!unsent().length) setTimeout(showNext, 2000);
}

function swap(html) {
  htmx.swap("#work", html, { swapStyle: "innerHTML" });
  appear(false);
}

// A page that waits for work asks by itself (hx-trigger).
document.body.addEventListener("htmx:afterSwap", (event) => { if (event.detail.target === work && event.detail.xhr) appear(false); });

onChange((progress) => {
  const count = unsent().length;
  const line = document.getElementById("unsent");
  // one on its way is nothing to speak of
  line.hidden = count < 2 && navigator.onLine && !work.querySelector("[data-waiting]");
  if (!count) line.hidden = true;
  line.textContent = `${count} ${count === 1 ? "answer is" : "answers are"} kept on this computer, and will be sent as soon as the server can be reached.`;
  if (progress) {
    for (const name of ["mine_today", "done", "left"]) document.querySelector(`[data-pace=${name}]`).textContent = progress[name];
    const bar = document.querySelector("#pace progress");
    bar.max = Math.max(1, progress.done + progress.left);
    bar.value = progress.done;
    if (progress.median_seconds !== null) document.querySelector("[data-pace=median]").textContent = `${Math.round(progress.median_seconds)} s`;
  }
  if (!count && work.querySelector("[data-waiting]")) showNext();
});

async function undo() {
  if (leaving) return;
  leaving = true;
  try {
    if (!(await send()) && unsent().length) { toast("The last answer is not sent yet; it cannot be taken back now."); return; }
    const answer = await fetch("/undo", { method: "POST", headers: { "X-CSRF-Token": csrf, Accept: "application/json" } });
    const { token, error } = await answer.json();
    if (token) location.assign(`/hand-out/${token}`);
    else toast(error ?? "There is nothing to take back.");
  } catch { toast("The server cannot be reached just now."); } finally { leaving = false; }
}

function openGuide() {
  htmx.ajax("GET", "/guidelines/now", { target: "#guide-text", swap: "innerHTML" });
  document.getElementById("guide").showModal();
}

document.addEventListener("click", (event) => { if (event.target.closest("[data-guide]")) openGuide(); });

document.addEventListener("submit", (event) => {
  if (event.target === undoForm) { event.preventDefault(); undo(); }
  if (event.target === task) { event.preventDefault(); submit(event.submitter?.value ?? "submit"); }
});

// -- keys -------------------------------------------------------------------------------------------------------------

const ACTIONS = {
  skip: () => submit("skip"),
  all_bad: () => task.querySelector("[name=flag][value=all_bad]")?.click(),
  flag: () => task.querySelector(".flags input")?.focus(),
  edit: () => {
    const edit = (ranking?.current ?? task.querySelector(".card"))?.querySelector(".edit");
    if (edit && !edit.open) { edit.dataset.byKey = ""; edit.open = true; }
    edit?.querySelector("textarea").focus();
  },
  reveal: () => { const veil = task.querySelector(".veil"); if (veil) { veil.open = !veil.open; refresh(); } },
  accept: () => task.dataset.kind === "review" && submit("accept"),
  reject: () => task.dataset.kind === "review" && submit("reject"),
};

function escape(target) {
  const card = target.closest(".card");
  if (card) card.focus();
  else target.blur();
}

function typed(event) {
  if (event.key === "Escape") escape(event.target);
  else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(task?.dataset.kind === "review" ? "accept" : "submit");
  else return;
  event.preventDefault();
}

function onCards(event) {
  if (!ranking || covered()) return false;
  const radio = event.target.matches("input[type=radio]");
  if (/^[1-9]$/.test(event.key)) ranking.digit(Number(event.key));
  else if (["0", "Backspace", "Delete"].includes(event.key)) ranking.digit(0);
  else if (event.key === "ArrowLeft" && !radio) ranking.step(-1);
  else if (event.key === "ArrowRight" && !radio) ranking.step(1);
  else if (event.key === "ArrowUp" && !radio) ranking.move(ranking.current, -1);
  else if (event.key === "ArrowDown" && !radio) ranking.move(ranking.current, 1);
  else return false;
  return true;
}

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.isComposing || document.querySelector("dialog[open]")) return;
  if (target.matches(TYPING)) { typed(event); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || !keysOn()) return;
  if (event.repeat && event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
  const action = actionOf(event.key);
  if (action === "help") openHelp();
  else if (action === "undo") undo();
  else if (action === "guidelines") openGuide();
  else if (!task) return;
  else if (event.key === "Enter") {
    if (target.closest("a, button, summary, label")) return; // theirs
    submit(task.dataset.kind === "review" ? "accept" : "submit");
  } else if (action && ACTIONS[action]) ACTIONS[action]();
  else if (event.key === "Escape" && target.closest(".extras, .bar")) focusFirst();
  else if (!onCards(event)) return;
  event.preventDefault();
});

forgetOldDrafts();
appear(true);
send();
