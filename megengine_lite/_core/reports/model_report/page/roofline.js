// The roofline: how fast each operator is, and what holds it back.

const MOST_POINTS = 1000;
const ROOF = { height: 430, left: 64, right: 24, top: 18, bottom: 44 };

function showRoofline(page) {
  const { nodes, roof } = page.report;
  const points = nodes
    .map((node, k) => ({ k, node, x: node.operations / node.bytes, y: speedOf(node) }))
    .filter((p) => p.y !== null && p.node.bytes > 0 && p.x > 0);
  byId("section-roofline").hidden = !roof || !points.length;
  if (!roof || !points.length) return;
  const place = byId("roofline");
  const others = nodes.filter((node) => node.ms > 0 && !(node.operations > 0));
  const otherTime = others.reduce((sum, node) => sum + node.ms, 0) / page.report.steps_ms;
  const width = Math.max(Math.min(place.clientWidth, 1100), 320), { height } = ROOF;
  const ridges = roof.bandwidths.map((b) => roof.gflops / b.gb_per_s);
  const xs = [...points.map((p) => p.x), ...ridges], ys = [...points.map((p) => p.y), roof.gflops];
  const x = logScale(Math.min(...xs) / 2, Math.max(...xs) * 2, ROOF.left, width - ROOF.right);
  const y = logScale(Math.max(Math.min(...ys) / 2, roof.gflops / 1e4), Math.max(...ys) * 2, height - ROOF.bottom, ROOF.top);
  const drawing = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "roofline" });
  drawAxes(drawing, x, y, width);
  const total = page.report.steps_ms;
  points.sort((a, b) => b.node.ms - a.node.ms);
  points.splice(MOST_POINTS);
  for (const p of points) [p.cx, p.cy, p.r] = [x.at(p.x), y.at(Math.max(p.y, y.low)), 3.5 + 16 * Math.sqrt(p.node.ms / total)];
  const { taken, texts } = drawRoofs(drawing, roof, x, y, points);
  for (const p of points) {
    const mark = shape("circle", { class: "mark", cx: p.cx, cy: p.cy, r: p.r, fill: css(heat(page.timeHeatOf(p.k))), "fill-opacity": 0.85 });
    mark.dataset.node = p.k;
    mark.addEventListener("click", () => page.choose(p.k, true));
    drawing.append(withTip(mark, `${page.tipOf(p.k)}\n${digits(p.x)} operations per byte, ${digits(p.y)} GFLOP/s`));
  }
  drawing.append(...texts);
  for (const p of points.slice(0, 8)) addLabel(drawing, p, points, taken, width);
  clear(
    place,
    element("p", { class: "muted" },
      "A circle is an operator, the larger the longer it takes. Operators near the level line compute as fast as this machine can; " +
      "those near a slanted line wait for memory. The lines were measured together with the model: the level one by float32 matrix products " +
      "(int8 kernels can be faster, and Winograd's convolutions do fewer operations than are counted), the slanted ones by sums of arrays: " +
      `${digits(roof.gflops)} GFLOP/s, ${roof.bandwidths.map((b) => `${b.name} ${digits(b.gb_per_s)} GB/s`).join(", ")}.`),
    others.length
      ? element("p", { class: "muted" },
        `${countOf(others.length, "operator")} of which no operations are counted ${others.length > 1 ? "are" : "is"} not shown: ` +
        `${shareText(otherTime)} of the time. Only products, convolutions and the like count.`)
      : null,
    element("div", { class: "plot" }, drawing),
  );
}

function logScale(low, high, from, to) {
  const [a, b] = [Math.log10(low), Math.log10(high)];
  return { low, high, from, to, at: (value) => from + ((Math.log10(value) - a) / (b - a)) * (to - from) };
}

/** The powers of ten of a scale, and round numbers between them where there are fewer than two. */
function powers(scale) {
  let found = [];
  for (const factors of [[1], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]]) {
    found = [];
    for (let e = Math.floor(Math.log10(scale.low)); e <= Math.floor(Math.log10(scale.high)); e++) {
      found.push(...factors.map((f) => Number(`${f}e${e}`)).filter((v) => v >= scale.low && v <= scale.high));
    }
    if (found.length > 1) break;
  }
  return found;
}

const plainNumber = (value) => (value >= 1 ? value.toLocaleString("en", { useGrouping: false }) : String(Number(value.toPrecision(1))));

function drawAxes(drawing, x, y, width) {
  const low = ROOF.height - ROOF.bottom;
  for (const value of powers(x)) {
    drawing.append(shape("line", { class: "grid", x1: x.at(value), x2: x.at(value), y1: ROOF.top, y2: low }));
    drawing.append(shape("text", { class: "muted", x: x.at(value), y: low + 16, "text-anchor": "middle" }, plainNumber(value)));
  }
  for (const value of powers(y)) {
    drawing.append(shape("line", { class: "grid", x1: ROOF.left, x2: width - ROOF.right, y1: y.at(value), y2: y.at(value) }));
    drawing.append(shape("text", { class: "muted", x: ROOF.left - 8, y: y.at(value) + 4, "text-anchor": "end" }, plainNumber(value)));
  }
  drawing.append(shape("path", { class: "axis", fill: "none", d: `M${ROOF.left},${ROOF.top} V${low} H${width - ROOF.right}` }));
  drawing.append(shape("text", { class: "muted", x: (ROOF.left + width - ROOF.right) / 2, y: low + 36, "text-anchor": "middle" }, "operations per byte"));
  const middle = (ROOF.top + low) / 2;
  drawing.append(shape("text", { class: "muted", transform: `translate(16 ${middle}) rotate(-90)`, "text-anchor": "middle" }, "GFLOP/s"));
}

/** Draws the lines; gives their labels, which belong above the points, and the rectangles that lines and labels take. */
function drawRoofs(drawing, roof, x, y, points) {
  const taken = [], texts = [], lines = [];
  const slow = [...roof.bandwidths].sort((a, b) => a.gb_per_s - b.gb_per_s);
  slow.forEach((band, k) => {
    const ridge = roof.gflops / band.gb_per_s;
    const start = Math.max(x.low, y.low / band.gb_per_s);
    const from = [x.at(start), y.at(start * band.gb_per_s)], to = [x.at(ridge), y.at(roof.gflops)];
    drawing.append(shape("path", { class: "roof", d: `M${from} L${to}` }));
    lines.push(...pieces(from, to));
    addSlanted(texts, `${band.name} ${digits(band.gb_per_s)} GB/s`, from, to, taken, points);
  });
  taken.push(...lines);
  const first = x.at(roof.gflops / slow.at(-1).gb_per_s);
  drawing.append(shape("path", { class: "roof", d: `M${first},${y.at(roof.gflops)} H${x.to}` }));
  addLevel(texts, `${digits(roof.gflops)} GFLOP/s`, first, x.to, y.at(roof.gflops), taken, points);
  taken.push([first, y.at(roof.gflops) - 3, x.to, y.at(roof.gflops) + 3]);
  return { taken, texts };
}

/** Small rectangles along a line. */
function pieces(from, to, count = 40) {
  const at = (k) => [0, 1].map((i) => from[i] + ((to[i] - from[i]) * k) / count);
  return Array.from({ length: count }, (_, k) => [at(k), at(k + 1)]).map(([[a, b], [c, d]]) => [a, Math.min(b, d), c, Math.max(b, d)]);
}

/** Writes a text above or below a level line, as far to the right as it covers nothing. */
function addLevel(texts, text, from, to, height, taken, points) {
  const w = widthOf(text);
  const boxAt = ([end, base]) => [end - w, base - 12, end, base + 4];
  const places = [];
  for (const base of [height - 7, height + 16]) for (let end = to - 4; end - w > from; end -= 8) places.push([end, base]);
  const free = (box) => !taken.some((t) => meets(box, t)) && !points.some((o) => meets(box, pointBox(o)));
  const place = places.find((p) => free(boxAt(p))) || [to - 4, height - 7];
  taken.push(boxAt(place));
  texts.push(shape("text", { class: "above", x: place[0], y: place[1], "text-anchor": "end" }, text));
}

/** Writes a text along a line, just above it, as near to its middle as it covers no other text and few points. */
function addSlanted(texts, text, from, to, taken, points) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const length = Math.hypot(dx, dy);
  const half = widthOf(text) / 2;
  if (length < 2 * half + 8) return;
  const [hx, hy] = [(half * dx) / length, (half * Math.abs(dy)) / length];
  const boxAt = (part) => {
    const [x, y] = [from[0] + dx * part, from[1] + dy * part];
    return [x - hx - 8, y - hy - 18, x + hx + 4, y + hy];
  };
  const end = (half + 4) / length;
  const parts = Array.from({ length: 37 }, (_, k) => 0.5 + (k % 2 ? 1 : -1) * Math.ceil(k / 2) * 0.025).filter((part) => part >= end && part <= 1 - end);
  // Nothing must be covered by another text, and by a circle only where no place is free of them.
  const readable = parts.filter((p) => !taken.some((t) => meets(boxAt(p), t)));
  const covered = (p) => points.filter((o) => meets(boxAt(p), pointBox(o))).length;
  if (!readable.length) return;
  const part = readable.reduce((best, p) => (covered(p) < covered(best) ? p : best));
  const [x, y] = [from[0] + dx * part, from[1] + dy * part];
  const angle = (Math.atan2(dy, dx) * 180) / Math.PI;
  const transform = `translate(${x} ${y}) rotate(${angle}) translate(0 -6)`;
  texts.push(shape("text", { class: "above", transform, "text-anchor": "middle" }, text));
  taken.push(boxAt(part));
}

const pointBox = (p) => [p.cx - p.r, p.cy - p.r, p.cx + p.r, p.cy + p.r];
const meets = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];

/** Writes the name of a point beside it where there is room for it. */
function addLabel(drawing, p, points, taken, width) {
  const text = shortened(titleOf(p.node), 28);
  const w = widthOf(text);
  const free = (box) =>
    box[0] > ROOF.left && box[2] < width - 4 && box[1] > 2 && box[3] < ROOF.height - ROOF.bottom &&
    !taken.some((t) => meets(box, t)) && !points.some((o) => o !== p && meets(box, pointBox(o)));
  const places = [
    [p.cx + p.r + 4, p.cy + 4], [p.cx - p.r - 4 - w, p.cy + 4], [p.cx - w / 2, p.cy - p.r - 5], [p.cx - w / 2, p.cy + p.r + 14],
  ];
  for (const [px, py] of places) {
    const box = [px - 1, py - 11, px + w, py + 3];
    if (free(box)) {
      taken.push(box);
      drawing.append(shape("text", { class: "label", x: px, y: py }, text));
      return;
    }
  }
}
