// --- the overview: scores, labels, groups and failures, each of which filters the images

function countValues(values) {
  const counts = new Map();
  for (const value of values) if (value !== undefined) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

const labelCounts = countValues(allRows.map(labelOf));
const groupCounts = countValues(allRows.map((row) => groupOf(row) || undefined));
const errorCounts = countValues(allRows.map((row) => errorOf(row)?.[0]));
const errors = countValues(allRows.map((row) => data.error[row]));
const reasons = errors.map(([number, times]) => [...data.errors[number], times]); // code, message, count
const binOf = (value) => Math.min(Math.floor(value * BINS + 1e-9), BINS - 1);

function binCounts(rows) {
  const bins = new Array(BINS).fill(0);
  for (const row of rows) if (data.score[row] !== null) bins[binOf(data.score[row])] += 1;
  return bins;
}

const bins = binCounts(allRows);

function makeHistogram() {
  const bars = bins.map((number, bin) => {
    const title = `${count(number)} with a score from ${bin / BINS} to ${(bin + 1) / BINS}`;
    const attributes = { class: "bin", title, "aria-label": title, tabindex: bin ? -1 : 0 };
    const parts = ["whole", "part"].map((kind) => create("span", { class: kind }));
    return create("button", { type: "button", ...attributes }, ...parts);
  });
  byId("histogram").append(...bars);
  let start = null;
  const at = (event) => {
    const box = byId("histogram").getBoundingClientRect();
    return clamp(Math.floor(((event.clientX - box.left) / box.width) * BINS), 0, BINS - 1);
  };
  const range = (a, b) => ({ min: Math.min(a, b) / BINS, max: (Math.max(a, b) + 1) / BINS });
  byId("histogram").addEventListener("pointerdown", (event) => (start = at(event)));
  addEventListener("pointermove", (event) => {
    if (start !== null && event.buttons && at(event) !== start) setState(range(start, at(event)));
  });
  addEventListener("pointerup", () => (start = null));
  addEventListener("pointercancel", () => (start = null));
  bars.forEach((bar, bin) => {
    bar.addEventListener("click", () => {
      const { min, max } = range(bin, bin);
      setState(state.min === min && state.max === max ? { min: 0, max: 1 } : { min, max }, { reveal: true });
    });
    bar.addEventListener("keydown", (event) => {
      const next = bars[bin + ({ ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? NaN)];
      if (!next) return;
      bar.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  });
}

function drawOverview() {
  const most = Math.max(...bins, 1);
  const parts = binCounts(shown);
  [...byId("histogram").children].forEach((bar, bin) => {
    const [whole, part] = bar.children;
    whole.style.blockSize = bins[bin] ? `max(2px, ${(100 * bins[bin]) / most}%)` : "0";
    part.style.blockSize = parts[bin] ? `max(2px, ${(100 * parts[bin]) / most}%)` : "0";
  });
  drawBars("by-label", labelCounts, "label", allBars ? Infinity : BARS);
  drawBars("by-group", groupCounts, "group", Infinity);
  drawBars("by-error", errorCounts, "error", Infinity, reasonsOf);
}

function drawBars(id, counts, field, most, more = () => []) {
  byId(id).hidden = !counts.length;
  const bars = counts.slice(0, most).map(([name, number]) => {
    const pressed = state[field] === name;
    const press = () => setState({ [field]: pressed ? "" : name }, { reveal: true });
    const text = field === "error" ? name.replaceAll("_", " ") : name;
    const content = [userText(text, "bar-name"), countLabel(number), meter(number / counts[0][1])];
    return create("li", {}, button({ class: "bar", "aria-pressed": pressed }, press, ...content), ...more(name));
  });
  if (counts.length > BARS && most !== Infinity) {
    const showAll = () => ((allBars = true), drawOverview());
    bars.push(create("li", {}, button({ class: "quiet" }, showAll, `Show all ${count(counts.length)}`)));
  }
  const focused = [...byId(id).querySelectorAll("button")].indexOf(document.activeElement);
  byId(id).querySelector("ul").replaceChildren(...bars);
  if (focused >= 0) byId(id).querySelectorAll("button")[focused]?.focus({ preventScroll: true });
}

function reasonsOf(code) {
  const matches = reasons.filter(([name]) => name === code);
  const line = ([, reason, times]) => create("li", {}, userText(reason), countLabel(times));
  const lines = matches.slice(0, REASONS).map(line);
  if (matches.length > REASONS) lines.push(create("li", {}, `and ${count(matches.length - REASONS)} other reasons`));
  return [create("ul", { class: "reasons" }, ...lines)];
}
