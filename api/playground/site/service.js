// Calls of this service. What it refuses is thrown as a Refusal, in the service's own words.

import { say } from "./words.js";

const PATIENCE = 120; // seconds
const START = document.baseURI;

/** A call that was not answered with 200. `param` names the field; `retryAfter` is in seconds. */
export class Refusal extends Error {
  constructor(message, details = {}) {
    super(message);
    Object.assign(this, { status: 0, code: "", param: null, retryAfter: null, requestId: null });
    Object.assign(this, details);
  }
}

/** The address of a path of the service, also behind a proxy that serves it below another path. */
export const addressOf = (path) => new URL(path, START).href;

export const readSettings = () => call("playground/settings.json");
export const embed = (body, token) => call("batch-embed", { token, body });
export const tokenize = (body, token) => call("tokenize", { token, body });
export const usage = (token) => call("usage", { token });

async function call(path, { token = null, body = null } = {}) {
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const options = { headers, credentials: "omit", cache: "no-cache", redirect: "error" };
  if (body !== null) {
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  const answer = await answerOf(addressOf(path), options);
  if (!answer.ok) throw refusalOf(answer);
  return answer.content;
}

/** The answer to a request: {ok, status, headers, content}. Content that is not JSON is null. */
export async function answerOf(url, options) {
  try {
    const signal = AbortSignal.timeout(PATIENCE * 1000);
    const response = await fetch(url, { ...options, signal });
    const { ok, status, headers } = response;
    return { ok, status, headers, content: parsed(await response.text()) };
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Refusal(late ? say("late", { seconds: PATIENCE }) : say("away"));
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function refusalOf({ status, headers, content }) {
  const { message, code, param } = content?.error ?? {};
  const seconds = Number.parseInt(headers.get("retry-after") ?? "", 10);
  return new Refusal(message ?? say("badAnswer", { status }), {
    status,
    code,
    param,
    retryAfter: Number.isNaN(seconds) ? null : seconds,
    requestId: headers.get("x-request-id"),
  });
}
