// Who is signed in. The token is in this module's memory alone: no storage, no cookie, no URL.

import { addressOf, answerOf, Refusal } from "./service.js";
import { say } from "./words.js";

let current = null; // {token, who, project}, where `project` is null for a pasted token

/**
 * What a sign-in link has brought: {token} or {error}; null without one.
 *
 * The fragment is removed from the address and the history before anything else runs.
 */
export function takeLink() {
  const found = new URLSearchParams(location.hash.slice(1));
  const token = found.get("access_token");
  const error = found.get("error_description") ?? found.get("error");
  if (token === null && error === null) return null;
  history.replaceState(null, "", location.pathname);
  return token === null ? { error } : { token };
}

export const session = () => current;

/** Keep a token. Line breaks and spaces are not part of any. */
export function useToken(text, project = null) {
  const token = text.replace(/\s+/g, "").replace(/^Bearer/i, "");
  if (!/^[\x21-\x7e]+$/.test(token)) throw new Refusal(say("tokenEmpty"));
  current = { token, who: whoseToken(token), project };
}

/** Forget the token, and end the session at the project that it came from. */
export function signOut() {
  const ended = current;
  current = null;
  if (ended?.project) {
    // Where that fails, the session expires by itself.
    ask(ended.project, "logout?scope=local", {}, ended.token).catch(() => {});
  }
}

/** Sign in with the project: e-mail and password. */
export async function signInWithPassword(project, email, password) {
  const answer = await ask(project, "token?grant_type=password", { email, password });
  if (typeof answer?.access_token !== "string") throw new Refusal(say("signInFailed"));
  useToken(answer.access_token, project);
}

/** Have the project send a link that opens this page. An unknown address gets no account. */
export async function sendLink(project, email) {
  const back = encodeURIComponent(addressOf(location.pathname));
  await ask(project, `otp?redirect_to=${back}`, { email, create_user: false });
}

async function ask(project, path, body, token = null) {
  const headers = { apikey: project.key, "Content-Type": "application/json" };
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  const options = { method: "POST", headers, body: JSON.stringify(body), credentials: "omit" };
  let answer;
  try {
    answer = await answerOf(`${project.url}/auth/v1/${path}`, options);
  } catch {
    throw new Refusal(say("projectAway", { url: project.url }));
  }
  if (answer.ok) return answer.content;
  const { msg, error_description: description, message } = answer.content ?? {};
  throw new Refusal(msg ?? description ?? message ?? say("signInFailed"));
}

/** The e-mail or id that a token names. Nobody has checked it yet: the service does. */
function whoseToken(token) {
  try {
    const part = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return String(claims.email || claims.sub || "?");
  } catch {
    return `${token.slice(0, 4)}…`;
  }
}
