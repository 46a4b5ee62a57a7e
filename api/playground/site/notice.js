// A refusal, in the service's words, and when to try again.

import { byId } from "./element.js";
import { say } from "./words.js";

let timer = null;
let again = null;

/** Show a refusal. `retry` repeats what was refused, after the time that the service asks for. */
export function showNotice(refusal, retry) {
  clearNotice();
  const { message, param, requestId, retryAfter, status } = refusal;
  byId("notice-message").textContent = message;
  byId("notice-details").textContent = [
    param && say("field", { field: param }),
    requestId && say("requestId", { id: requestId }),
  ].filter(Boolean).join(" ");
  byId("notice").hidden = false;
  if (retryAfter === null && status !== 0 && status < 500) return;
  again = retry;
  byId("retry").hidden = false;
  countDown(Date.now() + (retryAfter ?? 0) * 1000, retryAfter !== null);
}

/** Seconds go on the button, which readers do not announce; its end they do. */
function countDown(end, announced) {
  const seconds = Math.ceil((end - Date.now()) / 1000);
  byId("retry").disabled = seconds > 0;
  byId("retry").textContent = seconds > 0 ? say("retryIn", { seconds }) : say("retry");
  if (seconds > 0) {
    timer = setTimeout(() => countDown(end, announced), 250);
  } else if (announced) {
    byId("status").textContent = say("retryNow");
  }
}

export function clearNotice() {
  clearTimeout(timer);
  again = null;
  byId("notice").hidden = true;
  byId("retry").hidden = true;
  byId("notice-message").textContent = "";
}

export function startNotice() {
  byId("retry").addEventListener("click", () => again?.());
}
