// The page: from texts to what is shown of them.

import {
  askToSignIn, enterByLink, figure, leave, showAccount, showUsage, startAccount,
} from "./account.js";
import { showCode, startCode } from "./code.js";
import { byId, element } from "./element.js";
import { showTokens } from "./marks.js";
import { clearNotice, showNotice, startNotice } from "./notice.js";
import { describeHeatMap, describePair, drawHeatMap, drawMap, pairAt } from "./pictures.js";
import { embed, readSettings, tokenize } from "./service.js";
import { session, takeLink } from "./session.js";
import { addBox, changeForm, clearFaults, enteredTexts, nameBoxes, showFault } from "./texts.js";
import { cosines, principalComponents } from "./vectors.js";
import { count, currentLanguage, EXAMPLES, say, speak } from "./words.js";

const MOST_TEXTS = 200; // that a heat map has room for

const link = takeLink(); // before anything else
let settings = null;
let shown = null; // what is drawn: {texts, rows, components, answer, milliseconds, tokens}
let heat = null; // the sizes of the heat map
let drawnWidth = 0; // of the results, in pixels
let running = false;

const most = () => Math.min(MOST_TEXTS, settings.maxTexts);

/** The body of the call that the page makes. */
function bodyOf(texts) {
  const body = { texts };
  if (byId("task").value) body.task = byId("task").value;
  const size = Number(byId("dimensions").value);
  if (size !== settings.dimensions[0]) body.dimensions = size;
  return body;
}

async function compare() {
  if (running) return;
  const texts = enteredTexts();
  clearNotice();
  clearFaults();
  if (session() === null) {
    askToSignIn();
  } else if (texts.length === 0 || texts.length > most()) {
    const values = { n: texts.length, most: most() };
    byId("status").textContent = texts.length ? say("tooMany", values) : say("noTexts");
    byId("lines").focus();
  } else {
    const body = bodyOf(texts);
    const done = await attempt(() => compute(body), compare);
    if (done && byId("marks").checked) await mark(body);
  }
}

/** Do what the service may refuse, and whether it did; `again` is offered where that can help. */
async function attempt(work, again) {
  running = true;
  byId("compare").disabled = true;
  clearNotice();
  byId("status").textContent = say("working");
  try {
    byId("status").textContent = await work();
    return true;
  } catch (refusal) {
    byId("status").textContent = "";
    refuse(refusal, again);
    return false;
  } finally {
    if (session() !== null) await showUsage().catch(() => {}); // free of charge
    running = false;
    byId("compare").disabled = false;
  }
}

function refuse(refusal, again) {
  if (refusal.status === 401) {
    leave(refusal.message);
    return;
  }
  showNotice(refusal, again);
  const { param } = refusal;
  const place = /^texts\.(\d+)$/.exec(param ?? "");
  if (place) {
    showFault(Number(place[1]));
  } else if (["task", "dimensions"].includes(param)) {
    byId(param).setAttribute("aria-invalid", "true");
    byId(param).focus();
  }
}

/** Embed the texts and draw them. Returns what to say of it. */
async function compute(body) {
  const started = performance.now();
  const answer = await embed(body, session().token);
  const milliseconds = Math.round(performance.now() - started);
  const rows = cosines(answer.embeddings);
  const components = principalComponents(rows);
  shown = { texts: body.texts, rows, components, answer, milliseconds, tokens: null };
  byId("results").hidden = false;
  draw();
  byId("heat-title").focus();
  return doneWith(shown);
}

/** Mark the tokens of texts that are drawn, in a request of its own. */
async function mark({ texts, task }) {
  const body = { texts, ...(task && { task }), offsets: true };
  await attempt(async () => {
    shown.tokens = await tokenize(body, session().token);
    draw();
    return doneWith(shown);
  }, () => mark({ texts, task }));
}

const doneWith = ({ texts, milliseconds }) => say("done", {
  n: count(texts.length),
  ms: count(milliseconds),
});

/** Draw all results, in the language, the colours and the width of the page. */
function draw() {
  if (shown === null) return;
  const { texts, rows, components, answer, milliseconds, tokens } = shown;
  const { total_tokens: read, cached_tokens: cached } = answer.usage;
  byId("figures").replaceChildren(
    ...figure(say("time"), say("timeValue", { ms: count(milliseconds) })),
    ...figure(say("tokensRead"), count(read)),
    ...figure(say("tokensCharged"), count(read - cached)),
    ...figure(say("vectors"), `${texts.length} × ${answer.dimensions}`),
  );
  drawPictures();
  describeHeatMap(texts, rows);
  byId("cell").textContent = say("cellHint");
  byId("tokens").hidden = tokens === null;
  if (tokens !== null) showTokens(texts, tokens);
}

/** Draw what depends on the width and the colours of the page. */
function drawPictures() {
  if (shown === null) return;
  heat = drawHeatMap(shown.rows);
  drawMap(shown.texts, shown.components);
}

function showInput() {
  const texts = enteredTexts();
  byId("text-count").textContent = say("count", { n: count(texts.length), most: count(most()) });
  showCode(bodyOf(texts));
}

function fillOptions() {
  const { tasks, dimensions, model, maxTokens } = settings;
  const [task, size] = [byId("task").value, byId("dimensions").value];
  const values = { model, dimensions: dimensions[0], tokens: count(maxTokens) };
  byId("model").textContent = say("model", values);
  const none = element("option", { value: "" }, tasks.length ? say("noTask") : say("noTasks"));
  byId("task").replaceChildren(none, ...tasks.map((name) => element("option", {}, name)));
  byId("task").disabled = tasks.length === 0;
  byId("task").value = task;
  const sizes = dimensions.map((one) => element("option", {}, String(one)));
  byId("dimensions").replaceChildren(...sizes);
  byId("dimensions").value = size || String(dimensions[0]);
}

/** Write everything again in a language. */
function translate(language) {
  speak(language);
  showExamples();
  byId("language").value = language;
  fillOptions();
  nameBoxes();
  showAccount();
  showInput();
  draw();
}

/** Texts to begin with, unless somebody has entered others. */
function showExamples() {
  const field = byId("lines");
  const examples = Object.values(EXAMPLES).map((texts) => texts.join("\n"));
  if (field.value !== "" && !examples.includes(field.value)) return;
  field.value = EXAMPLES[settings.englishOnly ? "en" : currentLanguage()].join("\n");
}

function changed() {
  clearNotice();
  showInput();
}

function listen() {
  byId("run").addEventListener("submit", (event) => {
    event.preventDefault();
    compare();
  });
  byId("run").addEventListener("input", (event) => {
    if (event.target.name === "form") changeForm();
    clearFaults();
    showInput();
  });
  byId("add-box").addEventListener("click", () => {
    addBox().focus();
    showInput();
  });
  byId("language").addEventListener("change", (event) => translate(event.target.value));
  byId("heat").addEventListener("pointermove", (event) => {
    const pair = pairAt(event, heat, shown.texts.length);
    byId("cell").textContent = pair ? describePair(pair, shown.texts, shown.rows) : say("cellHint");
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPictures);
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width !== drawnWidth) requestAnimationFrame(drawPictures);
    drawnWidth = contentRect.width;
  }).observe(byId("results"));
}

async function start() {
  speak(currentLanguage());
  startCode();
  startNotice();
  try {
    settings = await readSettings();
  } catch (refusal) {
    showNotice(refusal, () => location.reload());
    return;
  }
  translate(currentLanguage());
  startAccount(settings, changed);
  listen();
  if (link) await enterByLink(link, changed);
  document.body.dataset.ready = "true";
}

start();
