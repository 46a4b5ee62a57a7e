// The part of the page where one signs in and sees what is left of the limits.

import { byId, element } from "./element.js";
import { Refusal, usage } from "./service.js";
import { sendLink, session, signInWithPassword, signOut, useToken } from "./session.js";
import { count, say } from "./words.js";

let project = null;
let left = null; // the last answer of /usage

/** Make the forms work. `changed` is called when somebody signs in or out. */
export function startAccount(settings, changed) {
  project = settings.project;
  byId("sign-in").hidden = project === null;
  on("sign-in", "submit", () => signIn(changed));
  on("send-link", "click", requestLink);
  on("paste", "submit", () => {
    useToken(byId("token").value);
    byId("token").value = "";
    return entered(changed);
  });
  on("sign-out", "click", () => {
    signOut();
    left = null;
    tell(say("signedOut"));
    showAccount();
    changed();
    byId(project ? "email" : "token").focus();
  });
}

/** Run an action, and say in the account's own place what was refused. */
function on(id, event, action) {
  byId(id).addEventListener(event, async (happened) => {
    happened.preventDefault();
    tell("");
    fail("");
    try {
      await action();
    } catch (error) {
      tell("");
      fail(error.message);
    }
  });
}

async function signIn(changed) {
  const [email, password] = [byId("email").value, byId("password").value];
  if (!password) {
    byId("password").focus();
    throw new Refusal(say("passwordMissing"));
  }
  tell(say("signingIn"));
  await signInWithPassword(project, email, password);
  byId("password").value = "";
  await entered(changed);
}

async function requestLink() {
  if (!byId("email").reportValidity()) return;
  const email = byId("email").value;
  await sendLink(project, email);
  tell(say("linkSent", { email }));
}

/** Use what a sign-in link has brought. */
export async function enterByLink(link, changed) {
  try {
    if (link.error) throw new Refusal(link.error);
    useToken(link.token, project);
    await entered(changed);
  } catch (error) {
    fail(error.message);
  }
}

/** Whoever has signed in stays so where only the limits cannot be told. */
async function entered(changed) {
  try {
    await showUsage();
  } catch (error) {
    if (session() === null) throw error;
    showAccount();
    fail(error.message);
  }
  tell("");
  changed();
  byId("account-title").focus();
}

/** Ask what is left of the limits. A token that the service refuses is forgotten. */
export async function showUsage() {
  try {
    left = await usage(session().token);
  } catch (error) {
    if (error.status === 401 || error.status === 403) leave(error.message);
    throw error;
  }
  showAccount();
}

/** Back to signing in, as after a token that has expired. */
export function leave(message = "") {
  signOut();
  left = null;
  showAccount();
  fail(message);
  byId("account-title").focus();
}

export function askToSignIn() {
  fail(say("signInFirst"));
  byId(project ? "email" : "token").focus();
}

const tell = (message) => {
  byId("account-status").textContent = message;
};

function fail(message) {
  byId("account-error").textContent = message;
  byId("account-error").hidden = message === "";
}

/** Show who is signed in and what is left, in the language of the page. */
export function showAccount() {
  const known = session();
  byId("signed-out").hidden = known !== null;
  byId("signed-in").hidden = known === null;
  if (known === null) return;
  fail("");
  byId("who").textContent = known.who;
  if (left === null) return;
  byId("quota").replaceChildren(
    ...figure(say("requests"), leftOf(left.requests)),
    ...figure(say("tokensLeft"), leftOf(left.tokens)),
  );
}

const leftOf = (allowance) => (allowance === null
  ? say("unlimited")
  : say("ofLimit", { left: count(allowance.remaining), limit: count(allowance.limit) }));

/** A name and its value, in a list of such. */
export function figure(name, value) {
  return [element("div", {}, element("dt", {}, name), element("dd", {}, value))];
}
