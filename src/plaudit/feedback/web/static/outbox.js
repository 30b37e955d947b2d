// Answers on their way. Each is kept until the server has it, however long that takes; the hand-out's token makes sure
// that what arrives twice counts once.

import { account, csrf, store, toast } from "./page.js";

const SHELF = `unsent.${account}`;
const LONGEST_WAIT = 30;
// The page's own word (in JSON) that this answer can never be taken. Whatever else goes wrong is the server's matter, or
// that of a proxy in between, and may be put right.
const REFUSED = [403, 404, 409, 422];
const TOO_LONG = 413;
let sending = false;
let wait = 0;
let timer = 0;
let told = () => {};

export const unsent = () => store.get(SHELF, []);

// `listener(progress)` after an answer has arrived; `listener(null)` whenever what is unsent has changed.
export function onChange(listener) { told = listener; }

export function put(token, body) {
  store.set(SHELF, [...unsent().filter((one) => one.token !== token), { token, body }]);
  told(null);
  return send();
}

export async function send() {
  if (sending) return false;
  sending = true;
  clearTimeout(timer);
  let arrived = true;
  try {
    let one;
    while (arrived && (one = unsent()[0]) !== undefined) arrived = await post(one);
  } finally { sending = false; }
  if (arrived) wait = 0;
  else {
    wait = Math.min(LONGEST_WAIT, Math.max(1, wait * 2));
    timer = setTimeout(send, 1000 * wait * (0.75 + Math.random() / 2));
  }
  return arrived;
}

// True: it need not be sent again.
async function post({ token, body }) {
  let answer;
  try {
    answer = await fetch(`/hand-out/${encodeURIComponent(token)}`, {
      method: "POST", body: new URLSearchParams(body), redirect: "error", signal: AbortSignal.timeout(20_000),
      headers: { "X-CSRF-Token": csrf, Accept: "application/json" },
    });
  } catch { told(null); return false; }
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401 || (answer.status === 403 && /out of date/.test(said.error ?? ""))) {
    toast("You are signed out. Sign in again: your answers are kept on this computer.", 30);
    told(null);
    return false;
  }
  const refused = answer.status === TOO_LONG || (REFUSED.includes(answer.status) && said.error !== undefined);
  if (!answer.ok && !refused) { told(null); return false; }
  store.set(SHELF, unsent().filter((one) => one.token !== token));
  if (refused) toast(`One answer was not taken: ${said.error ?? answer.statusText}`, 12);
  told(said.progress ?? null);
  return true;
}

window.addEventListener("online", send);
window.addEventListener("storage", (event) => { if (event.key === `plaudit.${SHELF}`) told(null); });
