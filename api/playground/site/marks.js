// The texts with their tokens marked, and what the model did not read struck through.

import { byId, element } from "./element.js";
import { count, say } from "./words.js";

const MOST_UNREAD = 2000; // characters that are shown of what was cut

/**
 * The parts of a text: {text, kind}, where kind is "token", "between" or "cut".
 *
 * Offsets count code points, while strings here count UTF-16 units. Several tokens of one
 * character, such as its bytes, are one part.
 */
export function partsOf(text, { offsets, truncated }) {
  const characters = Array.from(text);
  const slice = (start, end) => characters.slice(start, end).join("");
  const parts = [];
  let reached = 0;
  for (const place of offsets) {
    if (place === null) continue;
    const [start, end] = place;
    if (start > reached) parts.push({ text: slice(reached, start), kind: "between" });
    if (end > reached) parts.push({ text: slice(Math.max(start, reached), end), kind: "token" });
    reached = Math.max(reached, end);
  }
  if (reached < characters.length) {
    parts.push({ text: slice(reached), kind: truncated ? "cut" : "between" });
  }
  return parts;
}

/** Show what the service read of each text. */
export function showTokens(texts, answer) {
  byId("tokens-hint").textContent = say("tokenUnit");
  byId("token-list").replaceChildren(...answer.texts.map((read, index) => element("li", {},
    element("p", { class: "hint" }, summaryOf(read)),
    element("p", { class: "marked" }, ...marked(partsOf(texts[index], read))))));
}

function summaryOf({ ids, n_tokens: tokens, truncated }) {
  return truncated
    ? say("tokenCut", { n: count(tokens), read: count(ids.length) })
    : say("tokenCount", { n: count(tokens) });
}

function marked(parts) {
  let tokens = 0;
  return parts.map(({ text, kind }) => {
    if (kind === "between") return text;
    if (kind === "cut") return struck(text);
    tokens += 1;
    return element("span", { class: `token ${tokens % 2 ? "odd" : "even"}` }, text);
  });
}

function struck(text) {
  const characters = Array.from(text);
  const rest = characters.length - MOST_UNREAD;
  const shown = rest > 0 ? characters.slice(0, MOST_UNREAD).join("") : text;
  const more = rest > 0 ? say("moreCharacters", { n: count(rest) }) : "";
  return element("del", {}, element("span", { class: "hidden" }, say("notRead")), shown, more);
}
