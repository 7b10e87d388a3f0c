// Asks for a batch's folder and files once somebody has read the warning, and forgets them when the dialog closes.

import { read, turn } from "./page.js";

const REQUESTING = "Requesting …";

function filled(place, told) {
  const line = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  const files = document.createElement(told.numbered ? "ol" : "ul");
  files.append(...told.files.map((name) => {
    const item = document.createElement("li");
    item.append(line("code", name));
    return item;
  }));
  const folder = line("p", "Folder ");
  folder.append(line("code", told.folder));
  place.replaceChildren(folder, ...(told.files.length ? [line("p", "Files"), files] : []), ...(told.note ? [line("p", told.note)] : []));
}

async function reveal(form) {
  const place = form.querySelector("[data-revealed]");
  if (place.textContent === REQUESTING) return;
  const token = form.closest("[data-token]").dataset.token;
  place.textContent = REQUESTING;
  let answer;
  try {
    answer = await turn(form.dataset.reveals, { method: "POST", headers: { "X-Tidepool-Token": token } });
  } catch {
    answer = null;
  }
  // Closed meanwhile: nobody waits for it any more, and nothing of it is to stay.
  if (place.textContent !== REQUESTING) return;
  const body = answer && read(answer.text);
  if (!answer?.response.ok) {
    place.textContent = !answer ? "The server cannot be reached." : body.detail ?? `The server answered ${answer.response.status}.`;
    return;
  }
  filled(place, body);
  form.querySelector("button[value=yes]").hidden = true;
  form.querySelector("button[value=no]").textContent = "Close";
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.reveals || event.submitter?.value !== "yes") return;
  event.preventDefault();
  reveal(event.target);
});

// The event does not bubble.
document.addEventListener("close", (event) => {
  const form = event.target.querySelector?.("form[data-reveals]");
  if (!form) return;
  form.querySelector("[data-revealed]").replaceChildren();
  form.querySelector("button[value=yes]").hidden = false;
  form.querySelector("button[value=no]").textContent = "Cancel";
}, true);
