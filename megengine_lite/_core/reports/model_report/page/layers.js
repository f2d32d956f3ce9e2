// The results of two runs, operator by operator.

const LAYER_PLOT = { height: 220, left: 64, right: 16, top: 14, bottom: 34 };
const BEST = 200; // decibels at which a plot ends: equal numbers have no noise at all

const partingText = (layer) => (layer.has_numbers && layer.unequal ? `${layer.state}, ${distanceText(layer)}` : layer.state);
const distanceText = (layer) =>
  `by ${exactText(layer.difference)} at most (${exactText(layer.relative)} of the largest value), ${snrText(layer)}`;
const snrText = (layer) => (layer.snr_db === null ? "equal" : `${fixedText(layer.snr_db, 1)} dB`);

function showLayers(page) {
  const found = content.layers;
  byId("section-layers").hidden = !found;
  if (!found) return;
  const { layers } = found;
  const first = layers.findIndex((l) => !l.equal);
  const said = first < 0
    ? `All ${layers.length} results that both have are the same within ${found.tolerance} of their largest value.`
    : `The first result that differs is that of ${layers[first].op} ${layers[first].title}: ${layers[first].has_numbers ? distanceText(layers[first]) : layers[first].state}. ${found.note}`;
  const rows = element("div");
  const number = (text) => (l) => (l.has_numbers ? text(l) : "");
  const short = Math.max(20, first + 4);
  longTable(rows, [
    ["", "number", (l) => layers.indexOf(l)],
    ["operator", "text", (l) => l.op],
    ["name", "text", (l) => l.title],
    ["unequal", "number", number((l) => l.unequal.toLocaleString("en"))],
    ["largest difference", "number", number((l) => exactText(l.difference))],
    ["of largest value", "number", number((l) => exactText(l.relative))],
    ["mean difference", "number", number((l) => exactText(l.mean))],
    ["signal to noise", "number", number(snrText)],
    ["cosine", "number", number((l) => (l.cosine === null ? "" : fixedText(l.cosine, 7)))],
    ["", "said", (l) => l.state],
  ], layers, page, short, (l) => (!l.equal ? "parts" : ""));
  const [mine, theirs] = found.unmatched;
  const lonely = mine || theirs ? `; ${mine} and ${theirs} that only one has, because operators are fused or names differ` : "";
  const how = `${found.names[0]} against ${found.names[1]}: ${countOf(layers.length, "result")} that both have${lonely}. ${found.doubts}`;
  clear(byId("layers"), element("p", { class: "muted" }, how), element("p", {}, said), element("div", { class: "plot" }, layerPlot(page, found)), rows);
}

function layerPlot(page, { layers }) {
  const width = Math.max(Math.min(byId("section-layers").clientWidth || 900, 1100), 320), { height } = LAYER_PLOT;
  const values = layers.map((l) => (l.reason ? 0 : l.snr_db === null ? BEST : Math.min(Math.max(l.snr_db, 0), BEST)));
  const low = height - LAYER_PLOT.bottom;
  const x = (k) => LAYER_PLOT.left + ((k + 0.5) / Math.max(layers.length, 1)) * (width - LAYER_PLOT.left - LAYER_PLOT.right);
  const y = (value) => low - (value / BEST) * (low - LAYER_PLOT.top);
  const drawing = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "signal to noise of each operator" });
  for (const value of [0, 50, 100, 150, 200]) {
    drawing.append(shape("line", { class: "grid", x1: LAYER_PLOT.left, x2: width - LAYER_PLOT.right, y1: y(value), y2: y(value) }));
    const text = value === BEST ? "equal" : `${value} dB`;
    drawing.append(shape("text", { class: "muted", x: LAYER_PLOT.left - 8, y: y(value) + 4, "text-anchor": "end" }, text));
  }
  drawing.append(shape("path", { class: "line", d: values.map((v, k) => `${k ? "L" : "M"}${x(k).toFixed(1)},${y(v).toFixed(1)}`).join(" ") }));
  layers.forEach((layer, k) => {
    const colour = !layer.equal ? colours.wrong : colours.accent;
    const mark = shape("circle", { class: "mark", cx: x(k), cy: y(values[k]), r: layers.length > 150 ? 2 : 3.5, fill: colour });
    mark.addEventListener("click", () => page.choose(page.nodeNamed(layer.name), true));
    drawing.append(withTip(mark, `${layer.op} ${layer.title}\n${partingText(layer)}`));
  });
  drawing.append(shape("text", { class: "muted", x: (LAYER_PLOT.left + width) / 2, y: height - 8, "text-anchor": "middle" }, "operators in the order in which they run"));
  return drawing;
}
