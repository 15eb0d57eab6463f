// --- the images by label

function drawResults() {
  const byLabel = state.view === "labels";
  byId("nothing").hidden = shown.length > 0;
  byId("gallery").hidden = !byLabel;
  list.hidden = byLabel || !shown.length;
  if (byLabel) drawCards();
  else byId("cards").replaceChildren();
  redrawRows();
}

function drawCards() {
  const rows = new Map();
  for (const row of shown) rows.get(data.label[row])?.push(row) ?? rows.set(data.label[row], [row]);
  const failed = rows.get(-1)?.length ?? 0;
  rows.delete(-1);
  const found = [...rows].sort((a, b) => b[1].length - a[1].length);
  byId("cards").replaceChildren(...found.slice(0, cards).map(([label, of]) => card(data.labels[label], of)));
  if (failed && cards >= found.length) byId("cards").append(failures(failed));
  byId("more-cards").hidden = found.length <= cards;
  byId("more-cards").textContent = `Show more of ${count(found.length)} labels`;
}

function card(label, rows) {
  const best = rows.filter(hasImage).sort((a, b) => data.score[b] - data.score[a]).slice(0, data.most);
  const choose = () => ask({ label, view: "images" });
  const head = button({ class: "card-head" }, choose, foreign(label, "card-name"), counter(rows.length));
  const thumbs = best.map((row) => {
    const title = `${data.name[row]}, ${data.score[row].toFixed(3)}`;
    return button({ class: "thumb", title, "aria-label": title }, () => show(shown.indexOf(row)), image(row));
  });
  const none = make("p", { class: "none-here" }, "No thumbnail among these.");
  return make("section", { class: "card" }, head, best.length ? make("div", { class: "thumbs" }, ...thumbs) : none);
}

function failures(number) {
  const choose = () => ask({ status: "failed", view: "images" });
  const name = make("span", { class: "card-name" }, "No label: failed");
  return make("section", { class: "card" }, button({ class: "card-head" }, choose, name, counter(number)));
}

// --- the images, as a list of which no more than a window is drawn

function rowHeight() {
  return Number.parseFloat(getComputedStyle(list).getPropertyValue("--row"));
}

function redrawRows() {
  for (const element of drawn.values()) element.remove();
  drawn.clear();
  drawRows();
}

function drawRows() {
  if (list.hidden) return;
  const height = rowHeight();
  list.style.blockSize = `${shown.length * height}px`;
  list.setAttribute("aria-rowcount", shown.length);
  const top = -list.getBoundingClientRect().top;
  const first = Math.max(Math.floor(top / height) - OVERSCAN, 0);
  const last = Math.min(Math.ceil((top + innerHeight) / height) + OVERSCAN, shown.length);
  for (const [place, element] of drawn) {
    if (place >= first && place < last) continue;
    element.remove();
    drawn.delete(place);
  }
  for (let place = first; place < last; place++) {
    if (!drawn.has(place)) drawn.set(place, rowAt(place, height));
    drawn.get(place).classList.toggle("active", place === active);
  }
  if (active in shown) list.setAttribute("aria-activedescendant", `row-${active}`);
  else list.removeAttribute("aria-activedescendant");
}

function rowAt(place, height) {
  const row = shown[place];
  const cell = (kind, ...children) => make("div", { role: "gridcell", class: kind }, ...children);
  const name = cell("file", foreign(data.name[row], "name"), foreign(data.folders[data.folder[row]], "folder"));
  const answer = cell("answer", ...answerOf(row));
  const status = cell(`status ${statusOf(row)}`, statusOf(row));
  const element = make("div", { role: "row", class: "row", id: `row-${place}`, "aria-rowindex": place + 1 });
  if (anyImage) element.append(image(row));
  element.append(name, answer, scoreOf(row, cell), status);
  element.style.insetBlockStart = `${place * height}px`;
  element.addEventListener("click", () => show(place));
  return list.appendChild(element);
}

function answerOf(row) {
  const error = errorOf(row);
  if (error) return [foreign(error[1], "reason")];
  return groupOf(row) ? [foreign(labelOf(row)), foreign(groupOf(row), "group")] : [foreign(labelOf(row))];
}

function scoreOf(row, cell) {
  const value = data.score[row];
  return value === null ? cell("score") : cell("score", make("span", {}, value.toFixed(3)), meter(value));
}

function go(place) {
  if (state.view !== "images") ask({ view: "images" });
  if (!shown.length) return;
  active = bounded(place, 0, shown.length - 1);
  const height = rowHeight();
  const top = list.getBoundingClientRect().top + active * height;
  const above = byId("toolbar").offsetHeight;
  if (top < above) scrollBy(0, top - above);
  else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight);
  drawRows();
  list.focus({ preventScroll: true });
}

// --- one image

function show(place) {
  if (!(place in shown)) return;
  active = place;
  if (state.view === "images") go(place);
  const row = shown[place];
  byId("detail-name").textContent = data.name[row];
  byId("detail-body").replaceChildren(...detailOf(row));
  for (const step of byId("detail").querySelectorAll("[data-step]")) {
    step.disabled = !(place + Number(step.dataset.step) in shown);
  }
  openDialog(byId("detail"));
}

function openDialog(dialog) {
  if (!dialog.open) dialog.showModal();
  dialog.focus(); // else it would be the first of its buttons
}

function detailOf(row) {
  const error = errorOf(row);
  const size = data.size[row];
  const modified = data.modified[row];
  const facts = [
    ["path", make("bdi", { class: "path" }, paths[row])],
    ["status", statusOf(row)],
    error && ["error", make("bdi", {}, `${error[0]}: ${error[1]}`)],
    groupOf(row) && ["group", make("bdi", {}, groupOf(row))],
    size !== null && ["size", `${count(size)} bytes`],
    modified !== null && ["modified", new Date(modified * 1000).toLocaleString()],
    ["row", count(row + 1)],
  ];
  const fact = ([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
  const parts = make("dl", { class: "facts" }, ...facts.filter(Boolean).map(fact));
  return [...(hasImage(row) ? [image(row, true)] : []), ranksOf(row), parts];
}

function ranksOf(row) {
  if (data.label[row] < 0) return "";
  const ranks = [[data.label[row], data.score[row]]];
  const further = data.further?.[row] ?? [];
  for (let n = 0; n < further.length; n += 2) ranks.push([further[n], further[n + 1]]);
  const lines = ranks.map(([label, value]) => {
    const number = make("span", { class: "bar-count" }, String(value));
    return make("li", {}, make("bdi", {}, data.labels[label]), number, meter(value));
  });
  return make("ol", { class: "ranks" }, ...lines);
}
