// Makes a part of the page as the server shows it now, by changing what differs and nothing else: what a person has typed,
// chosen, opened, scrolled or focused stays as it is.

// What scripts write, and no server knows: what was requested last, when the page was updated, which rows are chosen.
const BELONG_TO_THE_PAGE = new Set(["notice", "freshness", "chosen"]);
const KEEPS_OPEN = new Set(["DETAILS", "DIALOG"]);

/**
 * Make an element as another one is.
 *
 * @param {Element} now - the element in the page.
 * @param {Element} wanted - what it should be.
 * @returns {boolean} whether it is; an open dialog is left as it is.
 */
export function patch(now, wanted) {
  if (now.isEqualNode(wanted) || BELONG_TO_THE_PAGE.has(now.id)) return true;
  if (isOpenDialog(now)) return false;
  for (const { name, value } of [...wanted.attributes]) {
    if (!isPersons(now, name) && now.getAttribute(name) !== value) now.setAttribute(name, value);
  }
  for (const { name } of [...now.attributes]) {
    if (!isPersons(now, name) && !wanted.hasAttribute(name)) now.removeAttribute(name);
  }
  return patchChildren(now, wanted);
}

function patchChildren(now, wanted) {
  const wants = [...wanted.childNodes];
  const pairs = paired([...now.childNodes], wants);
  const stay = new Set(pairs.values());
  let isWhole = true;
  for (const node of [...now.childNodes]) {
    if (stay.has(node)) continue;
    if (holdsOpenDialog(node)) isWhole = false;
    else node.remove();
  }
  let next = now.firstChild;
  for (const want of wants) {
    while (next && !stay.has(next)) next = next.nextSibling;
    const have = pairs.get(want);
    if (!have) {
      now.insertBefore(document.importNode(want, true), next);
      continue;
    }
    // Texts make way: an element that is moved loses the focus.
    while (next && next !== have && next.nodeType !== Node.ELEMENT_NODE && have.nodeType === Node.ELEMENT_NODE) {
      const text = next;
      next = next.nextSibling;
      now.append(text);
    }
    if (next === have) next = next.nextSibling;
    else move(now, have, next);
    if (have.nodeType === Node.ELEMENT_NODE) isWhole = patch(have, want) && isWhole;
    else if (have.nodeValue !== want.nodeValue) have.nodeValue = want.nodeValue;
  }
  return isWhole;
}

// Which node of the page becomes which wanted one: the one of the same name, or else the next one of the same kind.
function paired(nodes, wants) {
  const waiting = new Map();
  for (const node of nodes) waiting.set(nameOf(node), [...(waiting.get(nameOf(node)) ?? []), node]);
  const pairs = new Map();
  for (const want of wants) {
    const have = waiting.get(nameOf(want))?.shift();
    if (have) pairs.set(want, have);
  }
  return pairs;
}

function nameOf(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return `${node.nodeType}`;
  const own =
    node.id ||
    node.dataset.key ||
    (node.matches("tr") && node.querySelector("th a")?.getAttribute("href")) ||
    (node.matches("input[type=checkbox], input[type=radio]") && `${node.name}=${node.value}`);
  return own ? `${node.nodeName} #${own}` : `${node.nodeName} .${node.classList[0] ?? ""}`;
}

function move(parent, node, before) {
  if (parent.moveBefore) parent.moveBefore(node, before);
  else parent.insertBefore(node, before);
}

const isOpenDialog = (node) => node.nodeName === "DIALOG" && node.open;
const holdsOpenDialog = (node) => isOpenDialog(node) || Boolean(node.querySelector?.("dialog[open]"));
const isPersons = (element, attribute) => attribute === "open" && KEEPS_OPEN.has(element.nodeName);
