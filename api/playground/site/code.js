// The call that the page makes, shown as a program in one of three languages.

import { byId } from "./element.js";
import { PROGRAMS } from "./programs.js";
import { addressOf } from "./service.js";
import { say } from "./words.js";

let body = {};
let language = "curl";

/** Show the call with another body. */
export function showCode(wanted = body) {
  body = wanted;
  byId("code").textContent = PROGRAMS[language](addressOf("batch-embed"), body);
  byId("copied").textContent = "";
}

/** Make the tabs work, by pointer and by arrow keys. */
export function startCode() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => choose(tabs, index));
    tab.addEventListener("keydown", ({ key }) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: -1 }[key];
      if (to === undefined) return;
      choose(tabs, (to + tabs.length) % tabs.length);
      tabs[(to + tabs.length) % tabs.length].focus();
    });
  });
  byId("copy").addEventListener("click", copy);
}

function choose(tabs, chosen) {
  tabs.forEach((tab, index) => {
    tab.setAttribute("aria-selected", String(index === chosen));
    tab.tabIndex = index === chosen ? 0 : -1;
  });
  language = tabs[chosen].id.replace("tab-", "");
  byId("code-panel").setAttribute("aria-labelledby", tabs[chosen].id);
  showCode();
}

async function copy() {
  try {
    await navigator.clipboard.writeText(byId("code").textContent); // not there on plain HTTP
    byId("copied").textContent = say("copied");
  } catch {
    byId("copied").textContent = say("notCopied");
  }
}
