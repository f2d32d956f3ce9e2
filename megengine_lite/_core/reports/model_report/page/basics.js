// What all parts of the page share: the data, elements, numbers as text, colours.

const content = JSON.parse(document.getElementById("data").textContent);
const FONT = 'system-ui, "DejaVu Sans", sans-serif';
const byId = (id) => document.getElementById(id);

/** An element with attributes and children; text is never markup. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  fill(made, attributes, children);
  return made;
}

/** The same for drawings. */
function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(made, attributes, children);
  return made;
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((c) => c !== null && c !== undefined));
}

function clear(node, ...children) {
  node.replaceChildren(...children.filter(Boolean));
  return node;
}

// ---- numbers as text, which stay in one line with their units

/** A number in three digits: 1.23, 12.3, 123; in two below one: 0.10. */
function digits(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size >= 1) return value.toFixed(2);
  return value.toPrecision(2);
}

/** A number in three digits, however small it is. */
function exactText(value) {
  const size = Math.abs(value);
  return size === 0 || (size >= 1e-3 && size < 1e4) ? String(Number(value.toPrecision(3))) : value.toExponential(2);
}

/** A number with so many decimals; one that is rounded to zero has no sign. */
function fixedText(value, decimals) {
  const text = value.toFixed(decimals);
  return Number(text) === 0 ? text.replace("-", "") : text;
}

function scaled(value, units) {
  for (const [unit, size] of units) if (Math.abs(value) >= size) return `${digits(value / size)}\u00a0${unit}`;
  return digits(value);
}

const bytesText = (value) => (value < 1024 ? `${Math.round(value)}\u00a0B` : bytesInUnits(value));
const bytesInUnits = (value) => scaled(value, [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]);
const countText = (value) => (value < 1000 && Number.isInteger(value) ? String(value) : countInUnits(value));
const countInUnits = (value) => scaled(value, [["G", 1e9], ["M", 1e6], ["K", 1e3]]);
const shapeText = (shape) => (shape === null || shape === undefined ? "?" : shape.length ? shape.join("\u00d7") : "scalar");
const tensorType = (type, shape) => (type ? `${type} ${shapeText(shape)}` : "unknown");
const msText = (ms) => (ms >= 1 || ms === 0 ? `${digits(ms)}\u00a0ms` : `${digits(ms * 1e3)}\u00a0\u00b5s`);
const shareText = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}\u00a0%`;
const countOf = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** A text cut in its middle, where names differ least. A number at its end, by which they differ most, stays whole. */
function shortened(text, most) {
  if (text.length <= most) return text;
  if (most < 4) return "";
  const number = /[\W_]?\d+\W?$/.exec(text)?.[0].length ?? 0;
  const tail = Math.max(Math.floor((most - 1) / 2), number <= most - 2 ? number : 0);
  return `${text.slice(0, most - 1 - tail)}\u2026${text.slice(text.length - tail)}`;
}

const ruler = document.createElement("canvas").getContext("2d");

/** The text, or as much of it as has room in a font. */
function fitted(text, room, font = `12px ${FONT}`, cut = shortened) {
  let most = text.length;
  while (most > 0) {
    const shown = most < text.length ? cut(text, most) : text;
    const width = widthOf(shown, font);
    if (width <= room) return shown;
    most = Math.min(most - 1, Math.floor((most * room) / width));
  }
  return "";
}

function widthOf(text, font = `12px ${FONT}`) {
  ruler.font = font;
  return ruler.measureText(text).width;
}

const shortenedAtEnd = (text, most) => (most < 3 ? "" : `${text.slice(0, most - 1)}\u2026`);

const speedOf = (node) => (node.ms > 0 && node.operations > 0 ? node.operations / node.ms / 1e6 : null);
const kernelsOf = (node) => (node.kernels || []).map((k) => k.kernel);
const runsInNumpy = (node) => kernelsOf(node).includes("numpy");
const titleOf = (node) => node.name || node.op;

// ---- colours

let colours = {};

/** Reads the colours of the chosen scheme. */
function readColours() {
  const style = getComputedStyle(document.documentElement);
  colours = { heat: [] };
  for (const name of ["back", "panel", "text", "muted", "line", "accent", "wrong", "box", "box-line", "arrow", "piece"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
  for (let k = 0; k < 5; k++) colours.heat.push(rgb(style.getPropertyValue(`--heat-${k}`).trim()));
}

const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));

/** The colour of a part from 0 to 1: one hue, from the colour of the paper to the strongest. */
function heat(part) {
  const place = Math.min(Math.max(part, 0), 1) * 4;
  const low = Math.min(Math.floor(place), 3);
  return mixed(colours.heat[low], colours.heat[low + 1], place - low);
}

/** A colour between two others: the first for 0, the second for 1. */
const mixed = (a, b, part) => a.map((v, k) => Math.round(v + (b[k] - v) * part));

const css = (colour) => `rgb(${colour.join(",")})`;

/** Black or white, whichever is easier to read on a colour. */
function inkOn(colour) {
  const [r, g, b] = colour.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.2 ? "#14171c" : "#ffffff";
}

const heatGradient = () => `linear-gradient(to right, ${colours.heat.map(css).join(", ")})`;

// ---- what is shown beside the mouse

function showTip(event, text) {
  const tip = byId("tip");
  tip.textContent = text;
  tip.hidden = false;
  const { offsetWidth: width, offsetHeight: height } = tip;
  const right = event.clientX + 14 + width > innerWidth ? event.clientX - width - 10 : event.clientX + 14;
  const low = event.clientY + 16 + height > innerHeight ? event.clientY - height - 8 : event.clientY + 16;
  tip.style.left = `${Math.max(4, right)}px`;
  tip.style.top = `${Math.max(4, low)}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

/** Shows a text while the mouse is over an element. */
function withTip(node, text) {
  node.addEventListener("mousemove", (event) => showTip(event, text));
  node.addEventListener("mouseleave", hideTip);
  return node;
}

/** A canvas of the size of its place, sharp on every screen; gives its context and size. */
function prepared(canvas) {
  const ratio = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas.parentElement;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}
