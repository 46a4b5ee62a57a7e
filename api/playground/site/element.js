// Elements, made without HTML in strings: the page's policy allows none.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An HTML element. Children are elements or strings. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

/** The first characters of a text. */
export function shortened(text, most = 40) {
  const plain = text.replace(/\s+/g, " ");
  const characters = Array.from(plain);
  return characters.length > most ? `${characters.slice(0, most).join("")}…` : plain;
}

/** A table that scrolls by itself: `rows` have a text and its cells. */
export function table(caption, heads, rows) {
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map(([text, ...cells]) => element("tr", {},
    element("th", { scope: "row" }, text), ...cells.map((cell) => element("td", {}, cell))));
  const whole = element("table", {},
    element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body));
  const scrolling = { class: "scroll", tabindex: 0, role: "region", "aria-label": caption };
  return element("div", scrolling, whole);
}
