// Several uploads of the list, chosen by their boxes, and what is requested of them; reasons that a question asks for.

const chosen = new Set();

const boxes = () => [...document.querySelectorAll("input[name=chosen]")];
const able = (what) => boxes().filter((box) => box.checked && box.dataset.takes.split(" ").includes(what));
const several = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

function write(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

// The page is made anew while a run is at work: what is chosen outlasts that, as long as it is listed.
function show() {
  const bar = document.getElementById("chosen");
  if (!bar) return;
  const listed = boxes();
  for (const value of [...chosen]) if (!listed.some((box) => box.value === value)) chosen.delete(value);
  for (const box of listed) if (box.checked !== chosen.has(box.value)) box.checked = chosen.has(box.value);
  const all = document.getElementById("choose-all");
  all.checked = chosen.size > 0 && chosen.size === listed.length;
  all.indeterminate = chosen.size > 0 && chosen.size < listed.length;
  write(document.getElementById("chosen-count"), chosen.size ? `${several(chosen.size, "upload")} chosen` : "None chosen");
  const some = chosen.size ? "some" : "none";
  if (bar.dataset.chosen !== some) bar.dataset.chosen = some;
  for (const button of bar.querySelectorAll("button[data-what]")) {
    const count = able(button.dataset.what).length;
    if (button.disabled !== !count) button.disabled = !count;
    write(button.querySelector(".of"), `${count}`);
  }
}

// What a question says of those that can take an action, and of those that cannot.
function ask(what) {
  const dialog = document.getElementById(`dialog-chosen-${what}`);
  const takes = able(what);
  const rows = takes.reduce((sum, box) => sum + Number(box.dataset.rows), 0);
  for (const element of dialog.querySelectorAll("[data-uploads]")) write(element, several(takes.length, "upload"));
  for (const element of dialog.querySelectorAll("[data-sum]")) write(element, several(rows, "row"));
  const others = chosen.size - takes.length;
  const left = dialog.querySelector("[data-left]");
  left.hidden = !others;
  write(left, `${others} of the ${several(chosen.size, "chosen upload")} cannot take this, and ${others === 1 ? "is" : "are"} left out.`);
}

document.addEventListener("change", ({ target }) => {
  if (target.id === "choose-all") {
    for (const box of boxes()) target.checked ? chosen.add(box.value) : chosen.delete(box.value);
  } else if (target.name === "chosen") {
    target.checked ? chosen.add(target.value) : chosen.delete(target.value);
  } else return;
  show();
});

// Before the dialog opens, and before the request is sent: page.js does both.
document.addEventListener(
  "click",
  ({ target }) => {
    const button = target.closest("button[data-what]");
    if (button) ask(button.dataset.what);
  },
  true,
);

document.addEventListener(
  "submit",
  ({ target: form, submitter }) => {
    if (!form.dataset.to || submitter?.value !== "yes") return;
    const address = new URL(form.dataset.to, location.href);
    for (const box of form.dataset.what ? able(form.dataset.what) : []) address.searchParams.append("batch", box.value);
    const why = new FormData(form).get("why");
    if (why) address.searchParams.set("why", why);
    form.dataset.posts = address.pathname + address.search;
    if (!form.dataset.what) return;
    chosen.clear();
    // The button that has asked has nothing to do any more.
    form.closest("dialog").addEventListener("close", () => document.getElementById("choose-all")?.focus(), { once: true });
    setTimeout(show);
  },
  true,
);

for (const box of boxes()) if (box.checked) chosen.add(box.value);
show();
new MutationObserver(show).observe(document.getElementById("main"), {
  childList: true,
  subtree: true,
  characterData: true,
  attributes: true,
  attributeFilter: ["disabled", "data-chosen", "data-takes"],
});
