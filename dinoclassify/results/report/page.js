"use strict";

// Paths, labels and messages are untrusted: they become text nodes and attributes, never HTML, scripts or URLs.

const STATUSES = ["ok", "uncertain", "failed"];
const BINS = 20; // bars of the histogram
const BARS = 10; // labels in the overview before "Show all"
const CARDS = 24; // labels in the gallery before "Show more"
const REASONS = 3; // messages shown of each error code
const OVERSCAN = 6; // rows drawn above and below the window
const DEFAULTS = { view: "", q: "", label: "", group: "", status: "", error: "", min: 0, max: 1, sort: "input" };

const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en").format;
const normalized = (text) => text.normalize("NFC").toLowerCase();
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

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
const allRows = Array.from({ length: total }, (_, row) => row);
let state = { ...DEFAULTS };
let shown = allRows; // the rows that match the filters, in display order
let active = -1; // the index in `shown` of the current row
let cards = CARDS;
let allBars = false;
const drawn = new Map(); // index in `shown` -> element, of the rows in the DOM
const searchTexts = [];

// --- elements

function create(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function button(attributes, onClick, ...children) {
  const element = create("button", { type: "button", ...attributes }, ...children);
  element.addEventListener("click", onClick);
  return element;
}

function userText(text, kind = "") {
  return create("bdi", { class: kind, title: text }, text);
}

function countLabel(number) {
  return create("span", { class: "bar-count" }, count(number));
}

function meter(share) {
  const fill = create("span", { class: "fill" });
  fill.style.inlineSize = `${100 * share}%`;
  return create("span", { class: "meter", "aria-hidden": "true" }, fill);
}

function imageSource(row, large) {
  const link = data.links[row];
  if (large && link) return link;
  const thumbnail = embedded.has(row) && byId(`t${row}`);
  return thumbnail ? `data:image/jpeg;base64,${thumbnail.textContent}` : link;
}

function imageFrame(row, large = false) {
  const kind = large && row in data.links ? "frame large" : "frame";
  const frame = create("span", { class: kind, "aria-hidden": "true" });
  const address = imageSource(row, large);
  if (address) {
    const image = create("img", { src: address, alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => image.remove()); // deleted, or in a format that the browser cannot show
    frame.append(image);
  }
  return frame;
}

// --- the state: view, filters and order, kept in the URL's hash

function readHash() {
  const params = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  state = { ...DEFAULTS };
  for (const [name, value] of Object.entries(DEFAULTS)) {
    state[name] = typeof value === "number" ? parseScore(params[name], value) : (params[name] ?? value);
  }
  const known = { label: data.labels, group: data.groups, sort: ["input", "score-down", "score-up", "path"] };
  for (const [name, values] of Object.entries(known)) if (!values.includes(state[name])) state[name] = DEFAULTS[name];
  if (state.view !== "images") state.view = anyImage ? "labels" : "images";
}

function writeHash() {
  const changed = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name] && name !== "view");
  if (anyImage && state.view === "images") changed.push(["view", state.view]);
  const hash = new URLSearchParams(changed).toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", `#${hash}`);
}

function parseScore(text, otherwise) {
  const number = Number.parseFloat(text);
  return Number.isNaN(number) ? otherwise : clamp(number, 0, 1);
}

function searchText(row) {
  return (searchTexts[row] ??= normalized([paths[row], labelOf(row), ...(errorOf(row) ?? [])].join("\n")));
}

function makeFilter() {
  const words = normalized(state.q).split(/\s+/).filter(Boolean);
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
    words.every((word) => searchText(row).includes(word));
}

function inRange(value, min, max) {
  return value !== null && value >= min && (value < max || max === 1); // the same half-open intervals as the histogram
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

function setState(changes, { reveal = false } = {}) {
  state = { ...state, ...changes };
  refresh();
  if (reveal && byId("main").getBoundingClientRect().top > innerHeight / 2) byId("main").scrollIntoView();
}

function refresh() {
  shown = sorted(allRows.filter(makeFilter()));
  active = -1;
  cards = CARDS;
  drawControls();
  drawOverview();
  drawResults();
  writeHash();
  if (byId("main").getBoundingClientRect().top < 0) byId("main").scrollIntoView(); // to the first result
}

function drawControls() {
  const { view, sort, ...filters } = state;
  const narrowed = Object.entries(filters).some(([name, value]) => value !== DEFAULTS[name]);
  const whole = `${count(total)} ${total === 1 ? "image" : "images"}`;
  byId("count").textContent = shown.length === total ? whole : `${count(shown.length)} of ${count(total)}`;
  byId("clear").hidden = !narrowed;
  byId("sort").hidden = view === "labels"; // labels are ordered by count, their images by score
  byId("toggle").classList.toggle("on", narrowed);
  for (const id of ["q", "label", "group", "min", "max", "sort"]) {
    if (byId(id) !== document.activeElement || !["min", "max"].includes(id)) byId(id).value = state[id];
  }
  const statuses = state.status.split(",");
  for (const chip of byId("status").children) chip.setAttribute("aria-pressed", statuses.includes(chip.dataset.status));
  for (const tab of byId("views").children) tab.setAttribute("aria-pressed", tab.dataset.view === view);
}
