// The texts that are entered: one per line, or in a box for each.

import { byId, element } from "./element.js";
import { say } from "./words.js";

const ROWS = 3; // lines of a box

const lines = () => byId("lines");
const boxes = () => [...document.querySelectorAll("#boxes textarea")];
const inBoxes = () => document.querySelector("input[name=form]:checked").value === "boxes";

/** The texts that are not empty, in order. */
export function enteredTexts() {
  return all(inBoxes()).filter(Boolean);
}

/** The texts of a form, the empty ones too. */
function all(ofBoxes) {
  return ofBoxes ? boxes().map((box) => box.value) : lines().value.split("\n").map(withoutReturn);
}

const withoutReturn = (line) => line.replace(/\r$/, "");

/** Show the texts in the form that was chosen. A text of several lines stays one only in boxes. */
export function changeForm() {
  const entered = all(!inBoxes()).filter(Boolean);
  if (inBoxes()) {
    byId("boxes").replaceChildren();
    (entered.length ? entered : [""]).forEach(addBox);
  } else {
    lines().value = entered.map((text) => text.replace(/\s*\n\s*/g, " ")).join("\n");
  }
  byId("boxes-form").hidden = !inBoxes();
  byId("lines-form").hidden = inBoxes();
}

/** Add a box with a text, and return its field. */
export function addBox(text = "") {
  const field = element("textarea", { rows: ROWS });
  field.value = text;
  const remove = element("button", { type: "button", class: "quiet" });
  const item = element("li", {}, field, remove);
  remove.addEventListener("click", () => removeBox(item));
  byId("boxes").append(item);
  nameBoxes();
  return field;
}

function removeBox(item) {
  const next = item.nextElementSibling ?? item.previousElementSibling;
  item.remove();
  nameBoxes();
  (next?.querySelector("textarea") ?? byId("add-box")).focus();
  byId("boxes").dispatchEvent(new Event("input", { bubbles: true }));
}

/** Number the boxes, in the language of the page. */
export function nameBoxes() {
  boxes().forEach((box, index) => {
    box.setAttribute("aria-label", say("box", { n: index + 1 }));
    box.nextElementSibling.textContent = say("removeBox", { n: index + 1 });
  });
}

/** Lead to the text at an index of `enteredTexts`: select it, and mark its field as wrong. */
export function showFault(index) {
  const places = all(inBoxes()).map((text, place) => ({ text, place })).filter(({ text }) => text !== "");
  const found = places[index];
  const field = inBoxes() ? boxes()[found?.place] : lines();
  if (!found || !field) return;
  field.setAttribute("aria-invalid", "true");
  field.focus();
  if (inBoxes()) return;
  const before = lines().value.split("\n").slice(0, found.place);
  const start = before.reduce((sum, line) => sum + line.length + 1, 0);
  field.setSelectionRange(start, start + found.text.length);
}

/** Remove the marks of `showFault`. */
export function clearFaults() {
  for (const field of document.querySelectorAll("#run [aria-invalid]")) {
    field.removeAttribute("aria-invalid");
  }
}
