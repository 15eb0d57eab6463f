"use strict";

// Names from outside reach the page as text alone: nothing here makes HTML of a string, or an address of a name.

const STATUSES = ["ok", "uncertain", "failed"];
const BINS = 20; // of the histogram
const BARS = 10; // labels in the overview, before all are asked for
const CARDS = 24; // labels in the gallery, before more are asked for
const REASONS = 3; // of an error code
const OVERSCAN = 6; // rows drawn above and below the window
const WHOLE = { view: "", q: "", label: "", group: "", status: "", error: "", min: 0, max: 1, sort: "input" };

const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en").format;
const folded = (text) => text.normalize("NFC").toLowerCase();
const bounded = (value, low, high) => Math.min(Math.max(value, low), high);

const data = JSON.parse(byId("data").textContent);
const total = data.name.length;
const paths = data.name.map((name, row) => data.folders[data.folder[row]] + name);
const statusOf = (row) => STATUSES[data.status[row]];
const labelOf = (row) => data.labels[data.label[row]];
const groupOf = (row) => data.group && data.groups[data.group[row]];
const errorOf = (row) => data.errors[data.error[row]];
const embedded = new Set(data.thumbnails);
const hasImage = (row) => embedded.has(row) || row in data.links;
const anyImage = embedded.size > 0 || Object.keys(data.links).length > 0;

const list = byId("list");
const all = Array.from({ length: total }, (_, row) => row);
let state = { ...WHOLE };
let shown = all; // rows, in the order in which they are shown
let active = -1; // the place in `shown` that the keys are at
let cards = CARDS;
let allBars = false;
const drawn = new Map(); // place -> element, of the rows that are on the page
const haystacks = [];

// --- elements

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function button(attributes, onClick, ...children) {
  const element = make("button", { type: "button", ...attributes }, ...children);
  element.addEventListener("click", onClick);
  return element;
}

function foreign(text, kind = "") {
  return make("bdi", { class: kind, title: text }, text);
}

function counter(number) {
  return make("span", { class: "bar-count" }, count(number));
}

function meter(share) {
  const fill = make("span", { class: "fill" });
  fill.style.inlineSize = `${100 * share}%`;
  return make("span", { class: "meter", "aria-hidden": "true" }, fill);
}

function source(row, large) {
  const link = data.links[row];
  if (large && link) return link;
  const thumbnail = embedded.has(row) && byId(`t${row}`);
  return thumbnail ? `data:image/jpeg;base64,${thumbnail.textContent}` : link;
}

function image(row, large = false) {
  const kind = large && row in data.links ? "frame large" : "frame";
  const frame = make("span", { class: kind, "aria-hidden": "true" });
  const address = source(row, large);
  if (address) {
    const image = make("img", { src: address, alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => image.remove()); // gone, or of a format that this browser does not know
    frame.append(image);
  }
  return frame;
}

// --- what is asked for

function readHash() {
  const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  state = { ...WHOLE };
  for (const [name, whole] of Object.entries(WHOLE)) {
    state[name] = typeof whole === "number" ? score(given[name], whole) : (given[name] ?? whole);
  }
  const known = { label: data.labels, group: data.groups, sort: ["input", "score-down", "score-up", "path"] };
  for (const [name, values] of Object.entries(known)) if (!values.includes(state[name])) state[name] = WHOLE[name];
  if (state.view !== "images") state.view = anyImage ? "labels" : "images";
}

function writeHash() {
  const changed = Object.entries(state).filter(([name, value]) => value !== WHOLE[name] && name !== "view");
  if (anyImage && state.view === "images") changed.push(["view", state.view]);
  const hash = new URLSearchParams(changed).toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", `#${hash}`);
}

function score(text, otherwise) {
  const number = Number.parseFloat(text);
  return Number.isNaN(number) ? otherwise : bounded(number, 0, 1);
}

function haystack(row) {
  return (haystacks[row] ??= folded([paths[row], labelOf(row), ...(errorOf(row) ?? [])].join("\n")));
}

function wanted() {
  const words = folded(state.q).split(/\s+/).filter(Boolean);
  const label = data.labels.indexOf(state.label);
  const group = data.groups.indexOf(state.group);
  const statuses = state.status.split(",").filter(Boolean);
  const { min, max } = state;
  return (row) =>
    (label < 0 || data.label[row] === label) &&
    (group < 0 || data.group[row] === group) &&
    (!statuses.length || statuses.includes(statusOf(row))) &&
    (!state.error || errorOf(row)?.[0] === state.error) &&
    ((min === 0 && max === 1) || inRange(data.score[row], min, max)) &&
    words.every((word) => haystack(row).includes(word));
}

function inRange(value, min, max) {
  return value !== null && value >= min && (value < max || max === 1); // as the bars of the histogram count
}

function sorted(rows) {
  const scores = data.score;
  const orders = {
    "score-down": (a, b) => (scores[b] ?? -1) - (scores[a] ?? -1),
    "score-up": (a, b) => (scores[a] ?? 2) - (scores[b] ?? 2),
    path: (a, b) => (paths[a] < paths[b] ? -1 : Number(paths[a] > paths[b])),
  };
  return state.sort in orders ? rows.sort(orders[state.sort]) : rows;
}

function ask(changes, { reveal = false } = {}) {
  state = { ...state, ...changes };
  refresh();
  if (reveal && byId("main").getBoundingClientRect().top > innerHeight / 2) byId("main").scrollIntoView();
}

function refresh() {
  shown = sorted(all.filter(wanted()));
  active = -1;
  cards = CARDS;
  drawControls();
  drawOverview();
  drawResults();
  writeHash();
  if (byId("main").getBoundingClientRect().top < 0) byId("main").scrollIntoView(); // to the first of what is shown now
}

function drawControls() {
  const { view, sort, ...filters } = state;
  const narrowed = Object.entries(filters).some(([name, value]) => value !== WHOLE[name]);
  const whole = `${count(total)} ${total === 1 ? "image" : "images"}`;
  byId("count").textContent = shown.length === total ? whole : `${count(shown.length)} of ${count(total)}`;
  byId("clear").hidden = !narrowed;
  byId("sort").hidden = view === "labels"; // where labels go by their number, and images by their score
  byId("toggle").classList.toggle("on", narrowed);
  for (const id of ["q", "label", "group", "min", "max", "sort"]) {
    if (byId(id) !== document.activeElement || !["min", "max"].includes(id)) byId(id).value = state[id];
  }
  const statuses = state.status.split(",");
  for (const chip of byId("status").children) chip.setAttribute("aria-pressed", statuses.includes(chip.dataset.status));
  for (const one of byId("views").children) one.setAttribute("aria-pressed", one.dataset.view === view);
}
