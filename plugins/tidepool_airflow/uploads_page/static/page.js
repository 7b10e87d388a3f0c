// Dialogs, what they ask the server for, and links that leave the frame Airflow shows the page in.

const LOOK_AGAIN_MILLISECONDS = 4000;

function tell(text, kind, run) {
  const told = document.getElementById("told");
  told.className = `notice ${kind}`;
  told.textContent = text;
  if (run) {
    const link = Object.assign(document.createElement("a"), { href: run, textContent: "Follow the run" });
    link.dataset.airflow = "";
    told.append(" ", link);
  }
  told.hidden = false;
}

async function ask(address, token) {
  tell("Asking …", "");
  let answer;
  try {
    answer = await fetch(address, { method: "POST", headers: { "X-Tidepool-Token": token } });
  } catch {
    tell("The server cannot be reached. Nothing was started.", "failed");
    return;
  }
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) {
    await showAnew();
    tell("It is started.", "verified", said.run);
  } else {
    tell(said.detail ?? `The server answered ${answer.status}.`, "failed");
  }
}

// What is under way changes by itself: show it without moving anybody's focus or closing what is open.
async function showAnew() {
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return;
  const anew = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  const main = document.querySelector("main");
  const told = document.getElementById("told");
  if (!anew || main.querySelector("dialog[open]")) return;
  const open = [...main.querySelectorAll("details")].map((one) => one.open);
  main.replaceChildren(...anew.childNodes);
  main.querySelectorAll("details").forEach((one, place) => (one.open = open[place] ?? one.open));
  if (told && !told.hidden) document.getElementById("told")?.replaceWith(told);
}

function isBusy() {
  const focused = document.activeElement;
  return document.querySelector("dialog[open]") || (focused && focused !== document.body && focused.id !== "main");
}

setInterval(() => {
  if (document.querySelector(".result-asked") && !isBusy() && !document.hidden) showAnew();
}, LOOK_AGAIN_MILLISECONDS);

// The frame may not move the window around it, but its own site's links there may.
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
  ask(address, event.target.closest("[data-token]").dataset.token);
});
