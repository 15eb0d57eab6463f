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
  const labels = [...rows].sort((a, b) => b[1].length - a[1].length);
  const shownCards = labels.slice(0, cards).map(([label, labelRows]) => card(data.labels[label], labelRows));
  byId("cards").replaceChildren(...shownCards);
  if (failed && cards >= labels.length) byId("cards").append(failures(failed));
  byId("more-cards").hidden = labels.length <= cards;
  byId("more-cards").textContent = `Show more of ${count(labels.length)} labels`;
}

function card(label, rows) {
  const best = rows.filter(hasImage).sort((a, b) => data.score[b] - data.score[a]).slice(0, data.most);
  const choose = () => setState({ label, view: "images" });
  const head = button({ class: "card-head" }, choose, userText(label, "card-name"), countLabel(rows.length));
  const thumbs = best.map((row) => {
    const title = `${data.name[row]}, ${data.score[row].toFixed(3)}`;
    const open = () => showDetail(shown.indexOf(row));
    return button({ class: "thumb", title, "aria-label": title }, open, imageFrame(row));
  });
  const none = create("p", { class: "none-here" }, "None of these has a thumbnail.");
  const body = best.length ? create("div", { class: "thumbs" }, ...thumbs) : none;
  return create("section", { class: "card" }, head, body);
}

function failures(number) {
  const choose = () => setState({ status: "failed", view: "images" });
  const name = create("span", { class: "card-name" }, "No label: failed");
  return create("section", { class: "card" }, button({ class: "card-head" }, choose, name, countLabel(number)));
}

// --- the list of images: only the rows in the window are in the DOM

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
  for (const [index, element] of drawn) {
    if (index >= first && index < last) continue;
    element.remove();
    drawn.delete(index);
  }
  for (let index = first; index < last; index++) {
    if (!drawn.has(index)) drawn.set(index, rowAt(index, height));
    drawn.get(index).classList.toggle("active", index === active);
  }
  if (active in shown) list.setAttribute("aria-activedescendant", `row-${active}`);
  else list.removeAttribute("aria-activedescendant");
}

function rowAt(index, height) {
  const row = shown[index];
  const cell = (kind, ...children) => create("div", { role: "gridcell", class: kind }, ...children);
  const name = cell("file", userText(data.name[row], "name"), userText(data.folders[data.folder[row]], "folder"));
  const answer = cell("answer", ...labelOrError(row));
  const status = cell(`status ${statusOf(row)}`, statusOf(row));
  const element = create("div", { role: "row", class: "row", id: `row-${index}`, "aria-rowindex": index + 1 });
  if (anyImage) element.append(imageFrame(row));
  element.append(name, answer, scoreOf(row, cell), status);
  element.style.insetBlockStart = `${index * height}px`;
  element.addEventListener("click", () => showDetail(index));
  return list.appendChild(element);
}

function labelOrError(row) {
  const error = errorOf(row);
  if (error) return [userText(error[1], "reason")];
  return groupOf(row) ? [userText(labelOf(row)), userText(groupOf(row), "group")] : [userText(labelOf(row))];
}

function scoreOf(row, cell) {
  const value = data.score[row];
  return value === null ? cell("score") : cell("score", create("span", {}, value.toFixed(3)), meter(value));
}

function moveTo(index) {
  if (state.view !== "images") setState({ view: "images" });
  if (!shown.length) return;
  active = clamp(index, 0, shown.length - 1);
  const height = rowHeight();
  const top = list.getBoundingClientRect().top + active * height;
  const above = byId("toolbar").offsetHeight;
  if (top < above) scrollBy(0, top - above);
  else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight);
  drawRows();
  list.focus({ preventScroll: true });
}

// --- one image

function showDetail(index) {
  if (!(index in shown)) return;
  active = index;
  if (state.view === "images") moveTo(index);
  const row = shown[index];
  byId("detail-name").textContent = data.name[row];
  byId("detail-body").replaceChildren(...detailOf(row));
  for (const step of byId("detail").querySelectorAll("[data-step]")) {
    step.disabled = !(index + Number(step.dataset.step) in shown);
  }
  openDialog(byId("detail"));
}

function openDialog(dialog) {
  if (!dialog.open) dialog.showModal();
  dialog.focus(); // else its first button gets the focus
}

function detailOf(row) {
  const error = errorOf(row);
  const size = data.size[row];
  const modified = data.modified[row];
  const facts = [
    ["path", create("bdi", { class: "path" }, paths[row])],
    ["status", statusOf(row)],
    error && ["error", create("bdi", {}, `${error[0]}: ${error[1]}`)],
    groupOf(row) && ["group", create("bdi", {}, groupOf(row))],
    size !== null && ["size", `${count(size)} bytes`],
    modified !== null && ["modified", new Date(modified * 1000).toLocaleString()],
    ["row", count(row + 1)],
  ];
  const fact = ([name, value]) => create("div", {}, create("dt", {}, name), create("dd", {}, value));
  const parts = create("dl", { class: "facts" }, ...facts.filter(Boolean).map(fact));
  return [...(hasImage(row) ? [imageFrame(row, true)] : []), ranksOf(row), parts];
}

function ranksOf(row) {
  if (data.label[row] < 0) return "";
  const ranks = [[data.label[row], data.score[row]]];
  const further = data.further?.[row] ?? [];
  for (let n = 0; n < further.length; n += 2) ranks.push([further[n], further[n + 1]]);
  const lines = ranks.map(([label, value]) => {
    const number = create("span", { class: "bar-count" }, String(value));
    return create("li", {}, create("bdi", {}, data.labels[label]), number, meter(value));
  });
  return create("ol", { class: "ranks" }, ...lines);
}
