// --- keyboard and pointer events, and the start of the page

function handleKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  let handled = false;
  if (document.querySelector("dialog[open]")) handled = handleDialogKey(key);
  else if (event.target.id === "q") handled = handleSearchKey(key);
  else if (!event.target.matches("input, select")) handled = handlePageKey(key);
  if (handled) event.preventDefault();
}

function handleDialogKey(key) {
  const step = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[key];
  if (!step || !byId("detail").open) return false;
  showDetail(active + step);
  return true;
}

function handleSearchKey(key) {
  if (key === "Escape" && state.q) setState({ q: "" });
  else if (key === "Escape") byId("q").blur();
  else if (key === "ArrowDown" || key === "Enter") moveTo(0);
  else return false;
  return true;
}

function handlePageKey(key) {
  const page = Math.max(Math.floor((innerHeight - byId("toolbar").offsetHeight) / rowHeight()) - 1, 1);
  const inList = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  const step = { j: 1, k: -1 }[key] ?? (document.activeElement === list ? inList[key] : undefined);
  if (step !== undefined) moveTo(active < 0 && Math.abs(step) === 1 ? 0 : active + step);
  else if (key === "Enter" && document.activeElement === list) showDetail(Math.max(active, 0));
  else if (key === "/") byId("q").select();
  else if (key === "?") openDialog(byId("keys"));
  else if (key === "Escape") clearFilters();
  else return false;
  return true;
}

function clearFilters() {
  setState({ ...DEFAULTS, view: state.view, sort: state.sort });
}

function fillSelect(select, counts) {
  const short = (name) => (name.length > 60 ? `${name.slice(0, 59)}…` : name);
  const names = [...counts].sort((a, b) => a[0].localeCompare(b[0]));
  const option = ([name, number]) => create("option", { value: name }, `${short(name)} (${count(number)})`);
  select.append(...names.map(option));
  select.hidden = !counts.length;
}

function addListeners() {
  const fields = { q: String, label: String, group: String, sort: String, min: parseScore, max: parseScore };
  for (const [name, read] of Object.entries(fields)) {
    byId(name).addEventListener("input", () => setState({ [name]: read(byId(name).value, DEFAULTS[name]) }));
  }
  for (const id of ["min", "max"]) byId(id).addEventListener("blur", drawControls);
  const numbers = Object.fromEntries(countValues(allRows.map(statusOf)));
  byId("status").append(...STATUSES.filter((status) => numbers[status]).map((status) => {
    const press = () => {
      const chosen = state.status.split(",").filter((name) => name && name !== status);
      setState({ status: (state.status.includes(status) ? chosen : [...chosen, status]).join(",") });
    };
    const number = create("span", {}, count(numbers[status]));
    return button({ class: `chip ${status}`, "data-status": status }, press, `${status} `, number);
  }));
  byId("status").hidden = byId("status").children.length < 2;
  for (const tab of byId("views").children) tab.addEventListener("click", () => setState({ view: tab.dataset.view }));
  byId("toggle").addEventListener("click", () => {
    byId("toggle").setAttribute("aria-expanded", byId("toolbar").classList.toggle("open"));
  });
  byId("clear").addEventListener("click", clearFilters);
  byId("show-keys").addEventListener("click", () => openDialog(byId("keys")));
  byId("more-cards").addEventListener("click", () => ((cards += CARDS), drawCards()));
  for (const step of document.querySelectorAll("[data-step]")) {
    step.addEventListener("click", () => showDetail(active + Number(step.dataset.step)));
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", ({ target }) => {
      if (target === dialog || target.closest("[data-close]")) dialog.close();
    });
  }
  addEventListener("keydown", handleKey);
  addEventListener("scroll", () => requestAnimationFrame(drawRows), { passive: true });
  addEventListener("resize", redrawRows);
  addEventListener("hashchange", () => (readHash(), refresh()));
  addEventListener("DOMContentLoaded", drawResults); // the thumbnails come after this script
}

fillSelect(byId("label"), labelCounts);
fillSelect(byId("group"), groupCounts);
byId("views").hidden = !anyImage;
byId("scores").hidden = !labelCounts.length;
byId("range").hidden = !labelCounts.length;
byId("no-rows").hidden = total > 0;
byId("columns").hidden = total === 0;
document.body.classList.toggle("imageless", !anyImage);
makeHistogram();
addListeners();
readHash();
refresh();
