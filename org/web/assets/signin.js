// The sign-in page.
//
// It is a client of the IDX API: the org sends a response with forms, the page
// draws the first one and offers the others, the person fills it in, the page
// posts it, and the next response comes. When a response holds a challenge for
// the agent on this device, the page has agent.js carry it there.
//
// Three parts: talking to the org, drawing its forms, waiting for a device.

import { askAgent, loopbackPermission } from "/assets/agent.js";
import { askKey, browserHasKeys, makeKey } from "/assets/securitykey.js";

const { stateToken, app } = window.countersign;
const card = document.getElementById("card");
const view = document.getElementById("view");
const title = document.getElementById("title");
const statusLine = document.getElementById("status");
const more = document.getElementById("more"); // what is offered after a few seconds of waiting
const mark = document.querySelector(".mark");

const ANOTHER_WAY_AFTER = 5000; // ms of waiting until another way is offered
const BUSY_PAUSE = 60000; // when the org says it is asked too often

let waiting = null; // the wait in progress, see wait()
let key = null; // what stops the question to a security key, while there is one
let identifier = ""; // as typed, for the agent's hint when it is woken by a link
let started = false; // whether the first response was asked for
let numberShown = false; // whether the last push asked for a number
let acted = false; // whether the person has done anything: before that, looking for an agent stays silent

// ---------------------------------------------------------------- the org

/** Posts JSON to the org and returns the response, whatever its status. */
async function post(href, body, contentType = "application/json") {
  const url = new URL(href, location.origin);
  if (url.origin !== location.origin) throw new Error("a form of this page leads elsewhere");
  const answer = await fetch(url, {
    method: "POST",
    credentials: "same-origin",
    headers: { "Content-Type": contentType, Accept: "application/ion+json; okta-version=1.0.0" },
    body: JSON.stringify(body),
  });
  const idx = await answer.json();
  idx.httpStatus = answer.status;
  return idx;
}

/** Posts a form with what the person gave; its fixed fields come along. */
function submit(form, values = {}) {
  return post(form.href, { ...fixed(form.value), ...values });
}

/** The fields of a form that the org has filled in and the page may not change. */
function fixed(fields = []) {
  const out = {};
  for (const field of fields) {
    if (field.mutable === false && field.value !== undefined) out[field.name] = field.value;
  }
  return out;
}

/** Submits and draws what comes back; a failure to reach the org is said and can be repeated. */
async function go(send) {
  say("One moment.");
  acted ||= started;
  started = true;
  try {
    show(await send());
  } catch {
    say("");
    view.querySelector("#notes")?.remove();
    const unreachable = note("The organisation did not answer. Check your connection; nothing was lost.", "stop");
    unreachable.append(link("Try again", () => go(send)));
    view.prepend(el("div", { id: "notes" }, unreachable));
    free();
  }
}

// ---------------------------------------------------------------- drawing

/** Draws a response. This is the whole course of a sign-in, in order. */
function show(idx, remark) {
  if (idx.success?.href) return leave(idx.success.href);
  const forms = idx.remediation?.value ?? [];
  const [form] = forms;
  if (form?.name === "success-redirect") return leave(form.href);

  const challenge = form && challengeOf(idx, form);
  const notes = remark ? [note(remark, "warn")] : messages(idx); // the page knows better why it gave up
  if (waiting && form && isPoll(form) && waiting.key === waitKey(idx, form)) {
    return waiting.again(form, notes); // nothing changed: an identical challenge is not started again
  }
  stopWaiting();
  say("");
  if (!form) return ended(idx, notes);

  switch (form.name) {
    case "identify":
      return identify(idx, form, notes);
    case "challenge-authenticator":
      return answerWith(idx, form, notes);
    case "select-authenticator-authenticate":
      return choose(idx, form, notes);
    case "select-authenticator-enroll":
      return setUp(idx, form, notes);
    case "enroll-authenticator":
      return setUpKey(idx, form, notes);
    case "challenge-poll":
    case "device-challenge-poll":
      return challenge ? withDevice(idx, form, challenge, notes) : withPush(idx, form, notes);
    case "authenticator-verification-data":
      return offerPush(idx, form, notes);
    case "resend":
      return draw("You are not signed in", who(idx), notes, button("Ask again", () => go(() => submit(form)), { "data-se": "resend" }), others(idx));
    default:
      return draw("A step this page does not know", who(idx), notes, paragraph(`The organisation asks for “${form.name}”. Start again, or ask whoever looks after it.`), others(idx));
  }
}

function identify(idx, form, notes) {
  const fields = [
    field({ name: "identifier", label: "Username or email", autocomplete: "username", value: fieldOf(form, "identifier")?.value, hint: notes }),
  ];
  if (credentialOf(form, "passcode")) fields.push(passwordField(notes));
  if (fieldOf(form, "rememberMe")) fields.push(check("rememberMe", "Remember me on this device"));
  const launch = remediation(idx, "launch-authenticator");
  draw(
    app ? `Sign in to ${app}` : "Sign in",
    null,
    notes,
    filled(form, fields, "Next"),
    launch && [el("p", { class: "or" }, "or"), button([figure(), "Use the key on this device"], () => go(() => submit(launch)), { "data-se": "launch-authenticator", class: "button plain" })],
  );
}

/** A password, a code or a security key, whichever the form asks for. */
function answerWith(idx, form, notes) {
  if (credentialOf(form, "signatureData")) return withKey(idx, form, notes);
  if (credentialOf(form, "totp")) {
    const code = field({ name: "credentials.totp", label: "One-time code", autocomplete: "one-time-code", inputmode: "numeric", class: "code", maxlength: 12, hint: notes });
    return draw("Enter a one-time code", who(idx), notes, filled(form, [paragraph("Open Countersign and read the code for this account."), code], "Check the code"), others(idx));
  }
  // The hidden name lets password managers know which account this is for.
  const name = el("input", { type: "text", name: "username", autocomplete: "username", value: user(idx), hidden: true, readonly: true, tabindex: -1, "aria-hidden": true });
  draw("Enter your password", who(idx), notes, filled(form, [name, passwordField(notes)], "Sign in"), others(idx));
}

/** The ways to go on, one button each. */
function choose(idx, form, notes = []) {
  const options = [];
  for (const option of fieldOf(form, "authenticator")?.options ?? []) {
    const inner = option.value?.form?.value ?? [];
    const key = resolve(idx, option.relatesTo)?.key ?? option.label;
    const methods = inner.find((f) => f.name === "methodType");
    const id = inner.find((f) => f.name === "id")?.value;
    for (const { value: methodType, label } of methods?.options ?? [{ value: methods?.value, label: option.label }]) {
      const several = Boolean(methods?.options) || key === "okta_verify";
      const [head, text] = WAYS[methodType] ?? [label ?? option.label, ""];
      const authenticator = methodType ? { id, methodType } : { id };
      options.push(
        el("li", {},
          el("button", {
            type: "button", class: "choice", "data-se": several ? `${key}-${methodType}` : key,
            onclick: () => go(() => submit(form, { authenticator })),
          }, el("strong", {}, head), text && el("span", {}, text))),
      );
    }
  }
  const heading = notes.length ? "You are not signed in" : "How do you want to sign in?";
  draw(heading, who(idx), notes, notes.length > 0 && paragraph(options.length > 1 ? "Choose how to go on:" : "To try again:"), el("ul", { class: "choices" }, options));
}

const WAYS = {
  signed_nonce: ["Key on this device", "Countersign on this computer answers"],
  push: ["Approve on a device", "Countersign asks you there"],
  totp: ["One-time code", "Type the digits that Countersign shows"],
  password: ["Password", ""],
  webauthn: ["Security key", "A key that you plug in, or one that is built into this device"],
};

/** A response without a form: the end, good or bad. */
function ended(idx, notes) {
  if (notes.length === 0) notes.push(note(idx.errorSummary ? "The organisation refused this step." : "The organisation sent an answer this page cannot read.", "stop"));
  draw("This sign-in has ended", null, notes, paragraph("Your account is not affected."), button("Start again", restart));
}

function restart() {
  // The page's address says what the sign-in was for: load it anew.
  location.reload();
}

/** The browser leaves with the sign-in finished; only the org's own address is followed. */
function leave(href) {
  const url = new URL(href, location.origin);
  stopWaiting();
  if (url.origin !== location.origin) return ended({}, [note("The organisation sent you elsewhere; this page does not follow.", "stop")]);
  say("Signed in. Taking you on.");
  location.assign(url);
}

// ---------------------------------------------------------------- waiting

/** Keeps asking the org whether the answer has come, every `refresh` ms, one question at a time. */
function wait(idx, form) {
  const stop = new AbortController();
  const w = { key: waitKey(idx, form), stop, form, timer: 0, asking: false, hurry: false, values: () => ({}) };
  w.again = (next, notes) => {
    w.form = next; // the org may have changed the pace
    if (notes.length > 0) view.querySelector("#notes")?.replaceChildren(...notes);
    clearTimeout(w.timer); // a step beside the polls may have brought this
    w.timer = setTimeout(w.poll, next.refresh || 4000);
  };
  w.poll = async () => {
    if (stop.signal.aborted) return;
    if (w.asking) return void (w.hurry = true);
    w.asking = true;
    clearTimeout(w.timer);
    try {
      const next = await submit(w.form, w.values());
      w.asking = false;
      if (stop.signal.aborted) return;
      if (next.httpStatus === 429) return void (w.timer = setTimeout(w.poll, BUSY_PAUSE));
      show(next);
      if (w.hurry && waiting === w) {
        w.hurry = false;
        w.poll();
      }
    } catch {
      w.asking = false;
      if (stop.signal.aborted) return;
      say("The organisation did not answer. Trying again.");
      w.timer = setTimeout(w.poll, w.form.refresh || 4000);
    }
  };
  waiting = w;
  card.classList.add("waiting");
  w.timer = setTimeout(w.poll, form.refresh || 4000);
  later(w, ANOTHER_WAY_AFTER, () => (more.hidden = false));
  return w;
}

function stopWaiting() {
  if (!waiting) return;
  clearTimeout(waiting.timer);
  waiting.stop.abort();
  waiting = null;
}

/** Runs f after a while unless the wait is over by then. */
function later(w, ms, f) {
  setTimeout(() => waiting === w && f(), ms);
}

/** A push that is sent when the person says so; where that is the only way, they may say so once and for all. */
function offerPush(idx, form, notes) {
  const inner = fieldOf(form, "authenticator")?.form?.value ?? [];
  const id = inner.find((f) => f.name === "id")?.value;
  const methodType = inner.find((f) => f.name === "methodType")?.options?.[0]?.value;
  const auto = autoPush(inner);
  const send = () => go(() => submit(form, { authenticator: { id, methodType, ...autoValue(auto) } }));
  draw("Approve on your device", who(idx), notes, paragraph("Countersign asks you on the device where you added this account."), button("Ask my device", send, { "data-se": "send-push" }), auto, others(idx));
}

/** The switch that has pushes sent without being asked, where the org offers it. */
function autoPush(fields) {
  const switched = fields?.find((f) => f.name === "autoChallenge");
  return switched && check("autoChallenge", "From now on, ask my device at once", switched.value === true);
}

function autoValue(label) {
  return label ? { autoChallenge: label.querySelector("input").checked } : {};
}

/** The wait for a person at a device, with the number to pick there, if one is asked for. */
function withPush(idx, form, notes) {
  const current = idx.currentAuthenticator?.value ?? {};
  const number = current.contextualData?.correctAnswer;
  const auto = autoPush(form.value);
  numberShown = number !== undefined;
  draw(
    "Approve on your device",
    who(idx),
    notes,
    number === undefined ? figure() : [paragraph("Pick this number in Countersign on your device:"), el("p", { class: "number", "data-se": "number" }, String(number))],
    auto,
  );
  const w = wait(idx, form);
  w.values = () => autoValue(auto);
  const waits = () => waiting === w && say(number === undefined ? "Waiting for your answer in Countersign." : "Waiting for the number in Countersign.", { detail: NOT_YOU });
  const again = current.resend && link("Ask again", () => go(() => submit(current.resend)).then(waits), { "data-se": "resend" });
  more.append(
    paragraph("Nothing on your device? See that it is unlocked and online, and open Countersign there."),
    ...[again, otherWay(idx)].filter(Boolean),
  );
  waits();
}

/** The key on this device: the page hands the challenge to the agent, the agent answers the org. */
function withDevice(idx, form, challenge, notes) {
  const cancel = (idx.currentAuthenticator?.value ?? idx.authenticatorChallenge?.value)?.cancel;
  const viaLink = challenge.challengeMethod !== "LOOPBACK" && agentLink(challenge);
  draw("Sign in with this device", who(idx), notes, figure(), viaLink && button("Open Countersign", () => wake(viaLink)));
  more.append(
    paragraph("Nothing to see? Countersign may be waiting behind another window, or may not be running."),
    otherWay(idx) ?? link("Use another way", () => giveUp(cancel, "USER_CANCELED", null)),
  );
  const w = wait(idx, form);
  if (challenge.challengeMethod === "LOOPBACK") {
    const tell = (what) => waiting === w && say(...AGENT_DOES[what]);
    askAgent(challenge, { signal: w.stop.signal, silent: !acted, tell }).then((outcome) => waiting === w && agentSaid(outcome, idx, form, challenge, cancel, w));
  } else if (viaLink) {
    say("Waiting for Countersign on this device.");
    wake(viaLink);
  } else {
    say("The organisation asks this device in a way this page cannot pass on. Choose another way.", { busy: false });
    more.hidden = false;
  }
}

async function agentSaid(outcome, idx, form, challenge, cancel, w) {
  if (outcome.answered) {
    say("Answered. Signing you in.");
    return w.poll(); // the org knows more by now
  }
  if (outcome.status !== undefined) {
    return giveUp(cancel, "OV_RETURNED_ERROR", outcome.status, AGENT_SAID[outcome.status] ?? "Countersign on this device could not answer.");
  }
  if (!acted) return giveUp(cancel, "OV_UNREACHABLE_BY_LOOPBACK", null); // nobody asked for it: no word about it either
  if ((await loopbackPermission()) === "denied" && waiting === w) return blocked(idx, form, challenge, cancel);
  if (waiting === w) giveUp(cancel, "OV_UNREACHABLE_BY_LOOPBACK", null, "Countersign did not answer on this device. Start it, then try again.");
}

const NOT_YOU = "If you did not start this, deny it there: nothing happens then.";

const AGENT_DOES = {
  looking: ["Looking for Countersign on this device."],
  permission: ["Looking for Countersign on this device.", { detail: "If your browser asks whether this page may, allow it." }],
  asking: ["Approve the sign-in on this device.", { detail: `Countersign asks you outside this page. ${NOT_YOU}` }],
};

const AGENT_SAID = {
  400: "Countersign on this device could not read the question. It may be out of date.",
  403: "Countersign on this device does not accept questions from this page's address. If you did not open the page yourself, close it.",
  409: "Countersign on this device has answered this question before.",
  502: "Countersign on this device could not reach the organisation.",
  504: "Nobody answered on this device in time.",
};

/** Ends the wait for the agent and tells the org why. */
async function giveUp(cancel, reason, statusCode, remark) {
  stopWaiting();
  if (!cancel) return ended({}, [note(remark ?? "The sign-in was stopped.", "warn")]);
  say("One moment.");
  try {
    show(await submit(cancel, { reason, statusCode }), remark);
  } catch {
    ended({}, [note("The organisation did not answer. Check your connection.", "stop")]);
  }
}

/** The browser itself keeps the page from this device (Local Network Access). */
function blocked(idx, form, challenge, cancel) {
  stopWaiting();
  say("");
  draw(
    "Your browser keeps this page from Countersign",
    null,
    [],
    paragraph("Access to apps on this device was denied for this address, so the key on this device cannot be asked. Nothing was sent."),
    paragraph("To allow it: open the site settings beside the address, set “Apps on device” or “Local network access” to Allow, then try again."),
    button("Try again", () => withDevice(idx, form, challenge, [])),
    button("Use another way", () => giveUp(cancel, "OV_UNREACHABLE_BY_LOOPBACK", null), { class: "button plain" }),
  );
}

/** The link that wakes the agent, if the challenge has one of ours; nothing else is opened. */
function agentLink(challenge) {
  const href = challenge.href ?? "";
  if (!href.startsWith("com-okta-authenticator:")) return "";
  return identifier ? `${href}&login_hint=${encodeURIComponent(identifier)}` : href;
}

function wake(href) {
  document.getElementById("wake")?.remove();
  document.body.append(el("iframe", { id: "wake", src: href, hidden: true, title: "Opens Countersign" }));
}

// ---------------------------------------------------------------- security keys

/** What may or must be set up before the sign-in goes on. */
function setUp(idx, form, notes) {
  const options = [];
  for (const option of fieldOf(form, "authenticator")?.options ?? []) {
    const inner = option.value?.form?.value ?? [];
    const [id, methodType] = ["id", "methodType"].map((name) => inner.find((f) => f.name === name)?.value);
    const [head, about] = WAYS[methodType] ?? [option.label, ""];
    options.push(
      el("li", {},
        el("button", {
          type: "button", class: "choice", "data-se": resolve(idx, option.relatesTo)?.key ?? methodType,
          onclick: () => go(() => submit(form, { authenticator: { id, methodType } })),
        }, el("strong", {}, head), about && el("span", {}, about))),
    );
  }
  const why = remediation(idx, "skip") ? "You can add another way to show that it is you." : `${app || "This app"} asks for more than a password, and you have nothing else yet.`;
  draw("Set up a second way", who(idx), notes, paragraph(why), el("ul", { class: "choices" }, options), setUpLater(idx));
}

/** A new security key: the browser asks for it when the person says so. */
function setUpKey(idx, form, notes) {
  const data = idx.currentAuthenticator?.value?.contextualData?.activationData;
  withBrowser(idx, form, notes, {
    heading: "Set up your security key", about: "Have your key at hand. Your browser asks you to plug it in and to touch it; a key with a PIN asks for that, too.",
    action: "Set up my key", ask: (signal) => makeKey(data, enrolledKeys(idx), signal), rest: setUpLater(idx),
  });
}

/** One of the person's security keys. It is asked at once, unless an answer has just been refused. */
function withKey(idx, form, notes) {
  const data = idx.currentAuthenticator?.value?.contextualData?.challengeData;
  const start = withBrowser(idx, form, notes, {
    heading: "Use your security key", about: "Plug in your key and touch it when it blinks.",
    action: "Ask my key", ask: (signal) => askKey(data, enrolledKeys(idx), signal), rest: others(idx),
  });
  if (acted && notes.length === 0) start();
}

/** Draws a step in which the browser asks a key, and returns what starts it. */
function withBrowser(idx, form, notes, { heading, about, action, ask, rest }) {
  const start = async () => {
    if (key) return; // it is being asked
    const mine = (key = new AbortController());
    view.querySelector("#notes")?.replaceChildren();
    card.classList.add("waiting");
    say("Waiting for your security key.", { detail: "Your browser shows what it waits for. Nothing is sent before you touch the key." });
    try {
      const credentials = await ask(mine.signal);
      if (key === mine) await go(() => submit(form, { credentials }));
    } catch (error) {
      if (key !== mine) return; // the page has gone on
      say("");
      card.classList.remove("waiting");
      const said = note(KEY_SAID[error.name] ?? "Your browser could not ask the key.", "warn");
      said.setAttribute("role", "alert"); // the page stays as it was, so that nothing else speaks
      view.querySelector("#notes")?.replaceChildren(said);
    } finally {
      if (key === mine) key = null;
    }
  };
  if (browserHasKeys()) draw(heading, who(idx), notes, figure(), paragraph(about), button(action, start, { "data-se": "ask-key" }), rest);
  else draw(heading, who(idx), [...notes, note("This browser cannot use security keys. Open the page in another one.", "stop")], rest);
  return browserHasKeys() ? start : () => {};
}

const KEY_SAID = {
  NotAllowedError: "Your key was not used: it was cancelled, took too long, or is not one of yours here. Nothing was sent.",
  InvalidStateError: "This key is set up already. Use another one.",
  SecurityError: "Your browser does not let this page use your organisation's security keys. Check the address.",
};

/** The person's security keys, as the org lists them. */
function enrolledKeys(idx) {
  return (idx.authenticatorEnrollments?.value ?? []).filter((e) => e.key === "webauthn" && e.credentialId);
}

/** The way on without setting anything up, where there is one. */
function setUpLater(idx) {
  const skip = remediation(idx, "skip");
  return skip && el("div", { class: "more" }, link("Set up later", () => go(() => submit(skip)), { "data-se": "skip" }));
}

// ---------------------------------------------------------------- reading responses

function isPoll(form) {
  return form.name === "challenge-poll" || form.name === "device-challenge-poll";
}

/** The challenge for the agent in a response, if the form waits for one. */
function challengeOf(idx, form) {
  if (form.name === "device-challenge-poll") return idx.authenticatorChallenge?.value;
  if (form.name === "challenge-poll") return idx.currentAuthenticator?.value?.contextualData?.challenge?.value;
  return undefined;
}

/** What a wait is for. As long as it stays the same, nothing is drawn or asked anew. */
function waitKey(idx, form) {
  const current = idx.currentAuthenticator?.value;
  return JSON.stringify([form.name, challengeOf(idx, form)?.challengeRequest, current?.id, current?.methods?.[0]?.type, current?.contextualData?.correctAnswer]);
}

function remediation(idx, name) {
  return idx.remediation?.value?.find((form) => form.name === name);
}

function fieldOf(form, name) {
  return form.value?.find((f) => f.name === name);
}

function credentialOf(form, name) {
  return fieldOf(form, "credentials")?.form?.value?.find((f) => f.name === name);
}

function user(idx) {
  return idx.user?.value?.identifier ?? identifier;
}

/** Follows a path like "$.authenticatorEnrollments.value[0]". */
function resolve(idx, path) {
  const [steps] = Array.isArray(path) ? path : [path ?? ""];
  let at = idx;
  for (const step of steps.replace(/^\$\.?/, "").match(/[^.[\]]+/g) ?? []) at = at?.[step];
  return at;
}

/** The org's messages in the words of this page; an unknown one as it came. */
function messages(idx) {
  return (idx.messages?.value ?? []).map(({ i18n, message, class: kind }) => {
    const calm = kind === "INFO" || i18n?.key === DENIED; // a denial is what the person wanted
    if (i18n?.key === DENIED && numberShown) return note(DENIED_OR_MISSED, "");
    return note(WORDS[i18n?.key] ?? message ?? "Something was refused.", calm ? "" : "stop");
  });
}

const DENIED = "api.authn.poll.error.push_rejected";
const DENIED_OR_MISSED = "This sign-in was denied on your device, or another number was picked there. Nobody was signed in.";

const WORDS = {
  incorrectPassword: "That password does not fit this account. Check it and try again.",
  "errors.E0000004": "That password does not fit this account. Check it and try again.",
  "api.authn.error.PASSCODE_INVALID": "That code is not right, or was used before. Wait for the next one and try again.",
  "idx.unknown.user": "There is no account with that name here. Check the spelling.",
  "idx.session.expired": "This sign-in took too long.",
  "idx.operation.cancelled.on.other.device": "This sign-in was stopped on another device.",
  "core.auth.factor.signedNonce.error": "The answer of this device was not accepted.",
  "core.auth.factor.signedNonce.error.invalidDevice": "The organisation does not know this device any more. Add your account to Countersign again.",
  "countersign.authenticator.timed_out": "Nobody answered in time.",
  "countersign.push.throttled": "Your devices were asked too often in a short time. Wait ten minutes, or choose another way.",
  "countersign.push.reported": "The owner of this account reported the sign-in as not theirs. Nobody was signed in.",
  "countersign.code.throttled": "Too many codes were wrong. Wait a quarter of an hour, or choose another way.",
  "oie.authenticator.app.method.push.verify.enable.biometrics": "The organisation wants to know that it is you at that device. Set a PIN in Countersign there and try again.",
  "countersign.verification.cancelled": "You were not verified: that was cancelled on the device, and nobody was signed in. Try again and give your PIN or fingerprint there.",
  "countersign.verification.unavailable": "The device cannot verify you at the moment. Open Countersign there to see why and until when, then try again.",
  [DENIED]: "This sign-in was denied on your device. Nobody was signed in.",
  "oie.authenticator.oktaverify.method.fastpass.verify.enable.biometrics.desktop": "The organisation wants to know that it is you at this device. Set a PIN in Countersign and try again.",
  "authfactor.webauthn.error.assertion_validation_failure": "That key is not one of yours here, or its answer was not right. Try again, or use another key.",
  "authfactor.webauthn.error.expired": "Nobody used the key in time.",
  "authfactor.webauthn.error.user_verification": "The organisation wants the key to know that it is you. Set a PIN on it and try again.",
  "authfactor.webauthn.error.counter": "That key has counted backwards, as a copy of it would. It was not accepted; tell whoever looks after your account.",
  "authfactor.webauthn.error.attestation": "That key did not prove what it is, so it was not set up. Use another one.",
  "authfactor.webauthn.error.model": "The organisation takes other models of keys. Use one of those.",
  "authfactor.webauthn.error.factor_already_registered": "That key is set up already. Use another one.",
  tooManyRequests: "Too many tries. Wait a minute and try again.",
};

// ---------------------------------------------------------------- parts of a page

/** Draws a step: what is asked, of which account, what went wrong, and what there is to do. */
function draw(heading, account, notes, ...parts) {
  key?.abort(); // another step: the key is not asked any more
  key = null;
  title.textContent = heading;
  document.title = `${heading} · Countersign`;
  card.classList.remove("waiting");
  more.hidden = true;
  more.replaceChildren();
  view.replaceChildren(...[account, el("div", { id: "notes" }, notes), ...parts].flat(Infinity).filter(Boolean));
  // Focus goes to what there is to do; without an input, to the new heading.
  (view.querySelector("input:not([hidden])") ?? title).focus();
}

/** A form with its fields and one button. Dotted names become nested members, as the org wants them. */
function filled(form, fields, action) {
  const submitButton = el("button", { type: "submit", class: "button" }, action);
  return el("form", {
    novalidate: true,
    onsubmit(event) {
      event.preventDefault();
      if (submitButton.ariaDisabled === "true") return;
      const values = {};
      for (const input of event.target.querySelectorAll("input:not([hidden])")) {
        if (input.type !== "checkbox" && input.value === "") {
          view.querySelector("#notes").replaceChildren(note(`Fill in “${input.labels[0].textContent}” to go on.`, "stop"));
          input.ariaInvalid = "true";
          input.setAttribute("aria-describedby", "notes");
          return void input.focus();
        }
        const [name, inner] = input.name.split(".");
        const value = input.type === "checkbox" ? input.checked : input.name === "credentials.totp" ? input.value.replace(/\s/g, "") : input.value;
        if (inner) (values[name] ??= {})[inner] = value;
        else values[name] = value;
      }
      identifier = values.identifier ?? identifier;
      submitButton.ariaDisabled = "true";
      go(() => submit(form, values));
    },
  }, fields, submitButton);
}

function free() {
  for (const b of view.querySelectorAll('[aria-disabled="true"]')) b.ariaDisabled = "false";
}

function field({ name, label, hint = [], ...rest }) {
  const id = name.replace(".", "-");
  const wrong = hint.some((n) => n.classList.contains("stop"));
  return [
    el("label", { for: id }, label),
    el("input", { id, name, type: "text", autocapitalize: "none", spellcheck: "false", ...(wrong && { "aria-invalid": "true", "aria-describedby": "notes" }), ...rest }),
  ];
}

function passwordField(notes) {
  return field({ name: "credentials.passcode", label: "Password", type: "password", autocomplete: "current-password", hint: notes });
}

function check(name, label, checked = false) {
  return el("label", { class: "check" }, el("input", { type: "checkbox", name, checked }), label);
}

function who(idx) {
  const name = user(idx);
  return name && el("p", { class: "who" }, el("span", { "data-se": "identifier" }, name), startAgain(idx, "Not you?"));
}

/** The way to the other ways to sign in, if the response offers them beside its first form. */
function otherWay(idx) {
  const select = remediation(idx, "select-authenticator-authenticate");
  if (!select || idx.remediation.value[0] === select) return null;
  return link("Use another way", () => {
    stopWaiting();
    say("");
    choose(idx, select);
  }, { "data-se": "switchAuthenticator" });
}

function others(idx) {
  const way = otherWay(idx);
  return way && el("div", { class: "more" }, way);
}

function startAgain(idx, text = "Start again") {
  if (!idx.cancel?.href) return null;
  return link(text, () => {
    stopWaiting();
    identifier = "";
    go(() => submit(idx.cancel));
  }, { "data-se": "cancel" });
}

function note(text, kind) {
  return el("div", { class: `note ${kind}`, role: kind === "stop" ? "alert" : undefined }, el("p", {}, text));
}

function paragraph(text) {
  return el("p", {}, text);
}

function button(text, onclick, attributes = {}) {
  return el("button", { type: "button", class: "button", onclick, ...attributes }, text);
}

function link(text, onclick, attributes = {}) {
  return el("button", { type: "button", class: "link", onclick, ...attributes }, text);
}

/** Says in the live region what the page is doing, or what is needed. */
function say(text, { detail = "", busy = text !== "" } = {}) {
  if (statusLine.textContent !== text + detail) statusLine.replaceChildren(...[text, detail && el("small", {}, detail)].filter(Boolean));
  statusLine.classList.toggle("busy", busy);
}

/** The mark, as it is on the agent's own windows. */
function figure() {
  return mark.cloneNode(true);
}

/** Makes an element. Text goes in as text, never as markup. */
function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false && c !== ""));
  return e;
}

// A page that comes back from the browser's memory holds a sign-in of the past.
window.addEventListener("pageshow", (event) => event.persisted && restart());

go(() => post("/idp/idx/introspect", { stateToken }, "application/ion+json; okta-version=1.0.0"));
