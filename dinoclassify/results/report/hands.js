// --- what people do

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  let handled = false;
  if (document.querySelector("dialog[open]")) handled = inDialog(key);
  else if (event.target.id === "q") handled = inSearch(key);
  else if (!event.target.matches("input, select")) handled = onPage(key);
  if (handled) event.preventDefault();
}

function inDialog(key) {
  const step = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[key];
  if (!step || !byId("detail").open) return false;
  show(active + step);
  return true;
}

function inSearch(key) {
  if (key === "Escape" && state.q) ask({ q: "" });
  else if (key === "Escape") byId("q").blur();
  else if (key === "ArrowDown" || key === "Enter") go(0);
  else return false;
  return true;
}

function onPage(key) {
  const page = Math.max(Math.floor((innerHeight - byId("toolbar").offsetHeight) / rowHeight()) - 1, 1);
  const inList = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  const step = { j: 1, k: -1 }[key] ?? (document.activeElement === list ? inList[key] : undefined);
  if (step !== undefined) go(active < 0 && Math.abs(step) === 1 ? 0 : active + step);
  else if (key === "Enter" && document.activeElement === list) show(Math.max(active, 0));
  else if (key === "/") byId("q").select();
  else if (key === "?") openDialog(byId("keys"));
  else if (key === "Escape") clear();
  else return false;
  return true;
}

function clear() {
  ask({ ...WHOLE, view: state.view, sort: state.sort });
}

function fill(select, counts) {
  const short = (name) => (name.length > 60 ? `${name.slice(0, 59)}…` : name);
  const names = [...counts].sort((a, b) => a[0].localeCompare(b[0]));
  select.append(...names.map(([name, number]) => make("option", { value: name }, `${short(name)} (${count(number)})`)));
  select.hidden = !counts.length;
}

function setUp() {
  const fields = { q: String, label: String, group: String, sort: String, min: score, max: score };
  for (const [name, read] of Object.entries(fields)) {
    byId(name).addEventListener("input", () => ask({ [name]: read(byId(name).value, WHOLE[name]) }));
  }
  for (const id of ["min", "max"]) byId(id).addEventListener("blur", drawControls);
  const numbers = Object.fromEntries(tally(all.map(statusOf)));
  byId("status").append(...STATUSES.filter((status) => numbers[status]).map((status) => {
    const press = () => {
      const chosen = state.status.split(",").filter((one) => one && one !== status);
      ask({ status: (state.status.includes(status) ? chosen : [...chosen, status]).join(",") });
    };
    const number = make("span", {}, count(numbers[status]));
    return button({ class: `chip ${status}`, "data-status": status }, press, `${status} `, number);
  }));
  byId("status").hidden = byId("status").children.length < 2;
  for (const view of byId("views").children) view.addEventListener("click", () => ask({ view: view.dataset.view }));
  byId("toggle").addEventListener("click", () => {
    byId("toggle").setAttribute("aria-expanded", byId("toolbar").classList.toggle("open"));
  });
  byId("clear").addEventListener("click", clear);
  byId("show-keys").addEventListener("click", () => openDialog(byId("keys")));
  byId("more-cards").addEventListener("click", () => ((cards += CARDS), drawCards()));
  for (const step of document.querySelectorAll("[data-step]")) {
    step.addEventListener("click", () => show(active + Number(step.dataset.step)));
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", ({ target }) => {
      if (target === dialog || target.closest("[data-close]")) dialog.close();
    });
  }
  addEventListener("keydown", onKey);
  addEventListener("scroll", () => requestAnimationFrame(drawRows), { passive: true });
  addEventListener("resize", redrawRows);
  addEventListener("hashchange", () => (readHash(), refresh()));
  addEventListener("DOMContentLoaded", drawResults); // the thumbnails come after this script
}

fill(byId("label"), labelCounts);
fill(byId("group"), groupCounts);
byId("views").hidden = !anyImage;
byId("scores").hidden = !labelCounts.length;
byId("range").hidden = !labelCounts.length;
byId("no-rows").hidden = total > 0;
byId("columns").hidden = total === 0;
document.body.classList.toggle("imageless", !anyImage);
makeHistogram();
setUp();
readHash();
refresh();
