// Dialogs, the requests that they send, and links that leave the frame in which Airflow shows the page.

const REFRESH_MILLISECONDS = 4000;

function report(text, kind, run) {
  const notice = document.getElementById("notice");
  notice.className = `notice ${kind}`;
  notice.textContent = text;
  if (run) {
    const link = Object.assign(document.createElement("a"), { href: run, textContent: "Follow the run" });
    link.dataset.airflow = "";
    notice.append(" ", link);
  }
  notice.hidden = false;
}

async function request(address, token) {
  report("Requesting …", "");
  let response;
  try {
    response = await fetch(address, { method: "POST", headers: { "X-Tidepool-Token": token } });
  } catch {
    report("The server cannot be reached. Nothing was started.", "failed");
    return;
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) {
    await refresh();
    report(body.message ?? "Started.", "verified", body.run);
  } else {
    report(body.detail ?? `The server answered ${response.status}.`, "failed");
  }
}

// What is in progress changes by itself: show it without moving the focus or closing anything.
async function refresh() {
  const response = await fetch(location.href).catch(() => null);
  if (!response?.ok) return;
  const updated = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("main");
  const main = document.querySelector("main");
  const notice = document.getElementById("notice");
  if (!updated || main.querySelector("dialog[open]")) return;
  const open = [...main.querySelectorAll("details")].map((details) => details.open);
  main.replaceChildren(...updated.childNodes);
  main.querySelectorAll("details").forEach((details, index) => (details.open = open[index] ?? details.open));
  if (notice && !notice.hidden) document.getElementById("notice")?.replaceWith(notice);
}

function isBusy() {
  const focused = document.activeElement;
  return document.querySelector("dialog[open]") || (focused && focused !== document.body && focused.id !== "main");
}

setInterval(() => {
  if (document.querySelector(".result-asked") && !isBusy() && !document.hidden) refresh();
}, REFRESH_MILLISECONDS);

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
  const opens = event.target.closest("[data-opens]");
  if (opens) return document.getElementById(`dialog-${opens.dataset.opens}`).showModal();
  event.target.closest("[data-closes]")?.closest("dialog").close("yes");
});

document.addEventListener("submit", (event) => {
  const address = event.target.dataset.posts;
  if (!address || event.submitter?.value !== "yes") return;
  request(address, event.target.closest("[data-token]").dataset.token);
});
