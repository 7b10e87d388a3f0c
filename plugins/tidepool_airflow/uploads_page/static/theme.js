// Light or dark as Airflow shows itself: its choice lies in this site's storage. Loaded before anything is drawn.
function followAirflow() {
  let chosen = null;
  try {
    chosen = localStorage.getItem("theme");
  } catch {
    // No storage, no choice: the browser's own preference counts.
  }
  if (chosen === "light" || chosen === "dark") {
    document.documentElement.dataset.theme = chosen;
  } else {
    delete document.documentElement.dataset.theme;
  }
}

followAirflow();
document.documentElement.classList.toggle("framed", window.parent !== window);
addEventListener("storage", followAirflow);
