// The heat map of the similarities and the map of the texts, each also as a table.

import { byId, shape, shortened, table } from "./element.js";
import { extremes } from "./vectors.js";
import { say } from "./words.js";

const LARGEST_CELL = 64; // pixels
const SMALLEST_NUMBERED = 38; // pixels of a cell that has room for its number
const LABELS = 24; // pixels for the numbers of the texts
const LABELLED = 12; // texts whose beginnings are written on the map
const NUMBERED = 60; // texts whose numbers are; of more they would hide the points
const WIDE = 420; // pixels of a map with room for that
const MARGIN = 28; // pixels around the points
const LINE = 14; // pixels of a label's height

const number = (value) => value.toFixed(value < 0 ? 2 : 3);
const exact = (value) => value.toFixed(4);

/** Draw the heat map of a matrix of cosines, in the colours of the page's scheme. */
export function drawHeatMap(rows) {
  const canvas = byId("heat");
  const style = getComputedStyle(document.documentElement);
  const room = widthInside(canvas.parentElement);
  const cell = Math.max(1, Math.min(LARGEST_CELL, Math.floor((room - LABELS) / rows.length)));
  const size = LABELS + cell * rows.length;
  const context = sized(canvas, size, size);
  const colours = coloursOf(style);
  rows.forEach((row, y) => row.forEach((value, x) => {
    context.fillStyle = colourOf(value, colours);
    context.fillRect(LABELS + x * cell, LABELS + y * cell, cell, cell);
    if (cell >= SMALLEST_NUMBERED) {
      context.fillStyle = readableOn(value, colours);
      write(context, number(value), LABELS + (x + 0.5) * cell, LABELS + (y + 0.5) * cell, 12);
    }
  }));
  drawNumbers(context, rows.length, cell, style.getPropertyValue("--text"));
  drawScale(colours);
  canvas.setAttribute("aria-label", say("heatLabel", { n: rows.length }));
  return { cell, size };
}

function widthInside(node) {
  const { paddingLeft, paddingRight } = getComputedStyle(node);
  return node.clientWidth - Number.parseFloat(paddingLeft) - Number.parseFloat(paddingRight);
}

function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

function write(context, text, x, y, size) {
  context.font = `${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, x, y);
}

function drawNumbers(context, n, cell, colour) {
  const step = Math.ceil(LABELS / cell);
  context.fillStyle = colour;
  for (let index = 0; index < n; index += step) {
    const middle = LABELS + (index + 0.5) * cell;
    write(context, String(index + 1), middle, LABELS / 2, 11);
    write(context, String(index + 1), LABELS / 2, middle, 11);
  }
}

function drawScale(colours) {
  const canvas = byId("scale");
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x += 1) {
    context.fillStyle = colourOf(x / canvas.width, colours);
    context.fillRect(x, 0, 1, canvas.height);
  }
}

function coloursOf(style) {
  const parsed = (name) => {
    const hex = style.getPropertyValue(name).trim().slice(1);
    return [0, 2, 4].map((start) => Number.parseInt(hex.slice(start, start + 2), 16));
  };
  return { low: parsed("--low"), high: parsed("--high"), negative: parsed("--negative") };
}

/** From `low` at 0 to `high` at 1, and to `negative` at -1. */
function mixed(value, { low, high, negative }) {
  const end = value < 0 ? negative : high;
  const share = Math.min(Math.abs(value), 1);
  return low.map((start, index) => start + share * (end[index] - start));
}

const colourOf = (value, colours) => `rgb(${mixed(value, colours).map(Math.round).join(" ")})`;

function readableOn(value, colours) {
  const [red, green, blue] = mixed(value, colours).map((part) => (part / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000000" : "#ffffff";
}

/** What the pair under a point of the heat map is; null beside it. */
export function pairAt(event, { cell, size }, n) {
  const box = byId("heat").getBoundingClientRect();
  const scale = size / box.width;
  const [a, b] = [event.clientY - box.top, event.clientX - box.left]
    .map((pixels) => Math.floor((pixels * scale - LABELS) / cell));
  return [a, b].every((index) => index >= 0 && index < n) ? { a, b } : null;
}

/** The sentences beside the heat map, and its table. */
export function describeHeatMap(texts, rows) {
  const found = extremes(rows);
  byId("extremes").textContent = found === null ? say("one") : say("extremes", {
    a: found.most.a + 1,
    b: found.most.b + 1,
    most: number(found.most.value),
    c: found.least.a + 1,
    d: found.least.b + 1,
    least: number(found.least.value),
  });
  fillWhenOpened(byId("heat-table"), () => table(
    say("heatCaption"),
    [say("textColumn"), ...texts.map((_, index) => String(index + 1))],
    texts.map((text, index) => [named(text, index), ...rows[index].map(exact)]),
  ));
}

const named = (text, index) => `${index + 1}: ${shortened(text)}`;

/** A table of many texts is made only for those who open it. */
function fillWhenOpened(details, make) {
  details.querySelector("div")?.remove();
  const fill = () => {
    if (details.open && !details.querySelector("div")) details.append(make());
  };
  details.ontoggle = fill;
  fill();
}

/** Draw the texts at their principal components. */
export function drawMap(texts, { points, share }) {
  const map = byId("map");
  const enough = texts.length > 2;
  const shownShare = `${Math.round(share * 100)}%`;
  byId("variance").textContent = enough ? say("variance", { share: shownShare }) : say("tooFew");
  map.toggleAttribute("hidden", !enough);
  byId("map-table").hidden = !enough;
  if (!enough) return;
  const width = Math.max(widthInside(map.parentElement), 200);
  const height = Math.round(Math.min(width * 0.75, 420));
  map.setAttribute("viewBox", `0 0 ${width} ${height}`);
  map.setAttribute("aria-label", say("mapLabel", { n: texts.length }));
  const labelled = texts.length <= LABELLED && width >= WIDE;
  const places = placed(points, width, height);
  const lines = labelled ? apart(places) : places.map(([, y]) => y);
  map.replaceChildren(...texts.flatMap((text, index) => pointOf(text, index, places[index], {
    line: lines[index],
    left: width / 2,
    label: labelOf(text, index, { labelled, numbered: texts.length <= NUMBERED }),
  })));
  fillWhenOpened(byId("map-table"), () => table(
    say("mapCaption"),
    [say("textColumn"), "x", "y"],
    texts.map((text, index) => [named(text, index), ...points[index].map(exact)]),
  ));
}

/** The heights of the labels, moved down where they would cover one another. */
function apart(places) {
  const lines = new Array(places.length);
  let last = -Infinity;
  const order = places.map((_, index) => index).sort((a, b) => places[a][1] - places[b][1]);
  for (const index of order) {
    last = Math.max(places[index][1], last + LINE);
    lines[index] = last;
  }
  return lines;
}

function labelOf(text, index, { labelled, numbered }) {
  if (labelled) return `${index + 1} ${shortened(text, 22)}`;
  return numbered ? String(index + 1) : null;
}

/** A point and its label, if it has one, at the side where there is more room. */
function pointOf(text, index, [x, y], { line, left, label }) {
  const dot = shape("circle", { cx: x, cy: y, r: 6 }, shape("title", {}, named(text, index)));
  if (label === null) return [dot];
  const words = shape("text", {
    x: x > left ? x - 10 : x + 10,
    y: line + 4,
    "text-anchor": x > left ? "end" : "start",
  }, label);
  return [dot, words];
}

/** Positions in pixels; both axes have the same scale, so that distances can be compared. */
function placed(points, width, height) {
  const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const scale = Math.min(
    (width - 2 * MARGIN) / Math.max(right - left, 1e-9),
    (height - 2 * MARGIN) / Math.max(high - low, 1e-9),
  );
  return points.map(([x, y]) => [
    width / 2 + (x - (left + right) / 2) * scale,
    height / 2 - (y - (low + high) / 2) * scale,
  ]);
}

/** What a pair of texts and their similarity are, in a sentence. */
export function describePair({ a, b }, texts, rows) {
  const [first, second] = [texts[a], texts[b]].map((text) => shortened(text));
  return say("cell", { a: a + 1, b: b + 1, value: exact(rows[a][b]), first, second });
}

