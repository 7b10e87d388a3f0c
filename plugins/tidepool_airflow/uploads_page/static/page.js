// Keeps the page up to date; dialogs, the requests that they send, and links that leave Airflow's frame.

import { patch } from "./patch.js";

const main = document.getElementById("main");

// ---------------------------------------------------------------- requests, one at a time and no more than one in two seconds

const GAP = 2050; // Milliseconds between the beginnings of two requests: two seconds, and what a timer may be early.
const GIVE_UP = 30_000;
const SLOWEST = 15_000;
const LONGEST_PAUSE = 60_000;
const QUICK_LOOKS = 5; // Looks that find nothing new, until the pause between two of them begins to grow.

let free = performance.now() + GAP; // The page itself was a request.
let queue = Promise.resolve();
let took = 0;

export function turn(address, options) {
  const taken = queue.then(async () => {
    await new Promise((resolve) => setTimeout(resolve, free - performance.now()));
    const begun = performance.now();
    free = begun + GAP;
    const response = await fetch(address, { ...options, cache: "no-store", signal: AbortSignal.timeout(GIVE_UP) });
    const text = await response.text();
    took = performance.now() - begun;
    return { response, text };
  });
  queue = taken.catch(() => {});
  return taken;
}

// ---------------------------------------------------------------- what is new

const MOVING = "; updates by itself while a run is at work.";
const shown = document.querySelector("[data-freshness]");
let version = null;
let isLeftBehind = false; // An open dialog was left as it was.
let looking = null;
let timer = 0;
let failures = 0;
let unchanged = 0;
let ahead = 0; // By how many milliseconds the server's clock is ahead of ours.
let updated = new Date(shown?.querySelector("time")?.dateTime ?? Date.now());

const clock = (date) => `${date.toISOString().slice(11, 19)} UTC`;
const seconds = () => Number(main.dataset.live || 0);

function look() {
  if (!("live" in main.dataset)) return Promise.resolve();
  clearTimeout(timer);
  looking ??= load().finally(() => {
    looking = null;
    schedule();
  });
  return looking;
}

async function load() {
  let response = null;
  try {
    const headers = version && !isLeftBehind ? { "If-None-Match": version } : {};
    const answer = await turn(location.href.split("#")[0], { headers });
    response = answer.response;
    if (response.ok) take(response, answer.text);
  } catch {
    response = null; // No answer, or not in time.
  }
  const status = response?.status ?? 0;
  if (status === 200 || status === 304) {
    failures = 0;
    unchanged = status === 304 ? unchanged + 1 : 0;
    const at = Date.parse(response.headers.get("Date") ?? "") || Date.now();
    ahead = at - Date.now();
    updated = new Date(at);
    say();
  } else if ([401, 403, 404].includes(status)) {
    main.dataset.live = "";
    const why = status === 404 ? "it is not there any more" : "you have been signed out, or may not see it any more";
    say(`Not updated since ${clock(updated)}: ${why}. Load the page again.`);
  } else {
    failures += 1;
    const why = status ? `the server answers ${status}` : "the server cannot be reached";
    const next = seconds() ? ` Next try in ${Math.round(pause() / 1000)} s.` : "";
    say(`Not updated since ${clock(updated)}: ${why}.${next}`);
  }
}

function take(response, text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = page.getElementById("main");
  if (!fresh) return;
  const before = heard();
  const focused = document.activeElement;
  isLeftBehind = !patch(main, fresh);
  const [tabs, freshTabs] = [document, page].map((from) => from.querySelector("header nav"));
  if (tabs && freshTabs) patch(tabs, freshTabs);
  // What had the focus may be gone, for example the button of what is done.
  if (focused !== document.activeElement && !focused.isConnected) main.focus({ preventScroll: true });
  if (document.getElementById("outcomes")?.childElementCount) hideStarted();
  tellTimes();
  version = response.headers.get("ETag");
  const news = heard().filter((each) => !before.includes(each));
  if (news.length) document.getElementById("heard").textContent = news.join(". ");
}

// What is worth hearing; numbers that grow are not.
const heard = () => [...document.querySelectorAll("[data-heard]")].map((element) => element.dataset.heard);

function say(text = `Updated ${clock(updated)}${seconds() ? MOVING : "."}`) {
  if (shown) shown.textContent = text;
}

function pause() {
  if (failures) return Math.min(LONGEST_PAUSE, GAP * 2 ** failures);
  const slowed = seconds() * 1000 * 2 ** Math.max(0, unchanged - QUICK_LOOKS);
  return Math.max(Math.min(SLOWEST, Math.max(slowed, 2 * took)), seconds() * 1000);
}

function schedule() {
  clearTimeout(timer);
  if (seconds() && !document.hidden) timer = setTimeout(look, pause());
}

function lookAgain() {
  if (document.hidden) return clearTimeout(timer);
  unchanged = 0;
  // Becoming visible and getting the focus is one event for the reader.
  if (performance.now() >= free || !seconds()) return look();
  schedule();
}

document.addEventListener("visibilitychange", lookAgain);
addEventListener("pageshow", (event) => event.persisted && lookAgain());
addEventListener("focus", () => performance.now() >= free && lookAgain());

// How long ago something was needs no server.
const UNITS = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
];

function tellTimes() {
  for (const time of main.querySelectorAll("time[data-ago]")) {
    const passed = (Date.now() + ahead - Date.parse(time.dateTime)) / 1000;
    const [size, unit] = UNITS.find(([each]) => passed >= each) ?? [];
    const text = size ? `${Math.floor(passed / size)} ${unit} ago` : "just now";
    if (time.textContent !== text) time.textContent = text;
  }
}

setInterval(() => document.hidden || tellTimes(), 20_000);

// ---------------------------------------------------------------- what people request

function report(text, kind, run) {
  const notice = document.getElementById("notice");
  if (!notice) return;
  notice.className = `notice ${kind}`;
  notice.textContent = text;
  delete notice.dataset.started;
  if (run) {
    const link = Object.assign(document.createElement("a"), { href: run, textContent: "Follow the run" });
    link.dataset.airflow = "";
    notice.append(" ", link);
    notice.dataset.started = "";
  }
  notice.hidden = false;
}

// The page itself says from now on what becomes of it.
function hideStarted() {
  const notice = document.getElementById("notice");
  if (notice && "started" in notice.dataset) notice.hidden = true;
}

export function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

const requested = new Set();

async function request(form) {
  const address = form.dataset.posts;
  if (requested.has(address)) return;
  requested.add(address);
  const token = form.closest("[data-token]").dataset.token;
  const body = new URLSearchParams(new FormData(form));
  report("Requesting …", "");
  try {
    const headers = { "X-Tidepool-Token": token };
    const { response, text } = await turn(address, { method: "POST", headers, body });
    const said = read(text);
    if (response.ok) report(said.message ?? "Started.", "verified", said.run);
    else report(said.detail ?? `The server answered ${response.status}.`, "failed");
  } catch {
    report("The server cannot be reached. Look into the audit log whether it was started.", "failed");
  } finally {
    requested.delete(address);
  }
  unchanged = 0;
  await looking; // Perhaps it began before the request.
  await look();
}

document.addEventListener("submit", (event) => {
  if (event.target.dataset.posts && event.submitter?.value === "yes") request(event.target);
});

document.addEventListener("close", () => isLeftBehind && look(), true);

// ---------------------------------------------------------------- clicks

// The frame may not navigate the window around it, but links of its own site in that window may.
function leaveFrame(event, link) {
  if (window.parent === window) return;
  event.preventDefault();
  const outside = window.parent.document.createElement("a");
  outside.href = link.href;
  if (event.ctrlKey || event.metaKey || event.shiftKey) outside.target = "_blank";
  outside.rel = "noopener";
  window.parent.document.body.append(outside);
  outside.click();
  outside.remove();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-airflow]");
  if (link) return leaveFrame(event, link);
  if (event.target.closest("[data-refresh]")) {
    event.preventDefault();
    unchanged = failures = 0;
    return look();
  }
  const opens = event.target.closest("[data-opens]");
  if (opens) return document.getElementById(`dialog-${opens.dataset.opens}`)?.showModal();
  event.target.closest("[data-closes]")?.closest("dialog").close("yes");
});

say();
schedule();
