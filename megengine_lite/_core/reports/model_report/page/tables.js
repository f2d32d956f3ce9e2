// Tables: kinds of operators, steps in numpy, weights, two reports side by side.

/** `columns`: [title, kind, value of a row]; kinds are text, short, number, code, bar (a part from 0 to 1) and node. */
function table(columns, rows, page, rowClass = () => "") {
  const head = element("tr", {}, ...columns.map(([title, kind]) => element("th", { class: kind }, title)));
  const body = rows.map((row) =>
    element("tr", { class: rowClass(row) }, ...columns.map(([title, kind, value]) => titled(cell(kind, value(row), page), title))),
  );
  return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

/** A cell that can say what it is where there is no room for columns. */
function titled(made, title) {
  made.dataset.title = title;
  return made;
}

function cell(kind, value, page) {
  if (kind === "node") return element("td", {}, value === null ? "" : linkTo(page, value));
  if (kind !== "bar") return element("td", { class: kind }, value === null ? "" : String(value));
  const bar = element("div");
  bar.style.width = `${Math.max(value * 100, value > 0 ? 0.7 : 0)}%`;
  return element("td", { class: "bar" }, bar);
}

/** The first rows of a table, and a button that shows all. */
function longTable(place, columns, rows, page, most = 20, rowClass = undefined) {
  const all = () => clear(place, table(columns, rows, page, rowClass));
  if (rows.length <= most) return all();
  const more = element("button", { type: "button", click: all }, `show all ${rows.length}`);
  return clear(place, table(columns, rows.slice(0, most), page, rowClass), element("p", {}, more));
}

function showKinds(page) {
  if (!(page.report.steps_ms > 0)) return;
  const kinds = new Map();
  page.report.nodes.forEach((node) => {
    if (node.kind !== "operator" || node.ms === undefined) return;
    const entry = kinds.get(node.op) || { op: node.op, count: 0, ms: 0, operations: 0 };
    entry.count += 1;
    entry.ms += node.ms;
    entry.operations += node.operations;
    kinds.set(node.op, entry);
  });
  const total = page.report.steps_ms;
  const rows = [...kinds.values()].sort((a, b) => b.ms - a.ms);
  longTable(byId("kinds"), [
    ["operator", "text", (r) => r.op],
    ["count", "number", (r) => r.count],
    ["time", "number", (r) => msText(r.ms)],
    ["share", "number", (r) => shareText(r.ms / total)],
    ["GFLOP/s", "number", (r) => (speedOf(r) === null ? "" : digits(speedOf(r)))],
    ["", "bar", (r) => r.ms / total],
  ], rows, page);
}

function showNumpy(page) {
  if (!(page.report.steps_ms > 0)) return;
  const { nodes } = page.report;
  byId("section-numpy").hidden = !nodes.some((node) => node.kernels); // a device that does not tell
  const found = nodes.map((_, k) => k).filter((k) => runsInNumpy(nodes[k])).sort((a, b) => nodes[b].ms - nodes[a].ms);
  const place = byId("numpy");
  if (!found.length) return clear(place, element("p", { class: "muted" }, "None: every step has a kernel."));
  return longTable(place, [
    ["operator", "node", (k) => k],
    ["time", "number", (k) => msText(nodes[k].ms)],
    ["share", "number", (k) => shareText(page.shareOf(k))],
    ["", "bar", (k) => page.shareOf(k)],
  ], found, page);
}

function showWeights(page) {
  const weights = page.report.weights || [];
  const total = page.report.model ? page.report.model.parameter_bytes : 0;
  byId("section-weights").hidden = !weights.length;
  longTable(byId("weights"), [
    ["name", "text", (w) => w.name],
    ["type", "short", (w) => w.type],
    ["shape", "short", (w) => shapeText(w.shape)],
    ["read by", "text", (w) => w.by.join(", ") + (w.more ? ` and ${w.more} more` : "")],
    ["size", "number", (w) => bytesText(w.bytes)],
    ["share", "number", (w) => shareText(w.bytes / total)],
    ["", "bar", (w) => w.bytes / total],
  ], weights, page, 12);
}

function showComparison(page) {
  const found = content.comparison;
  byId("section-comparison").hidden = !found;
  if (!found) return;
  const ratio = ([a, b]) => (a > 0 && b !== null ? (b / a).toFixed(2) : "");
  const ms = (value) => (value === null ? "" : msText(value));
  const size = (value) => (value === null ? "" : bytesText(value));
  const count = (value) => (value === null ? "" : countText(value));
  const totals = [
    ["operators in the file", found.file_operators.map(count), ratio(found.file_operators)],
    ["parameters", found.parameters.map(count), ratio(found.parameters)],
    ...found.settings.map((s) => [s.name, s.values, ""]),
    ["time of a run", found.ms.map(ms), ratio(found.ms)],
    ["operators that run", found.operators.map((n) => n ?? ""), ratio(found.operators)],
    ["arena", found.arena.map(size), ratio(found.arena)],
    ["weights in memory", found.weights.map(size), ratio(found.weights)],
    ...found.kinds.map((k) => [`${k.op}, time`, k.ms.map(ms), ratio(k.ms)]),
  ];
  const [a, b] = page.labels;
  const sums = element("div");
  longTable(sums, [
    ["", "text", (r) => r[0]],
    [a, "number", (r) => r[1][0]],
    [b, "number", (r) => r[1][1]],
    ["ratio", "number", (r) => r[2]],
  ], totals, page, 16);
  const differing = element("div");
  longTable(differing, [
    ["operator", "text", (p) => p.name],
    [a, "number", (p) => msText(p.ms[0])],
    [b, "number", (p) => msText(p.ms[1])],
    ["ratio", "number", (p) => ratio(p.ms)],
    [`kernels, ${a}`, "code", (p) => p.kernels[0]],
    [`kernels, ${b}`, "code", (p) => p.kernels[1]],
  ], found.pairs, page, 10);
  clear(byId("comparison"), sums, element("h3", {}, "The greatest differences between operators of one name"), differing);
  if (!found.pairs.length) clear(byId("comparison"), sums);
  const problems = page.labels.map((label, k) => found.problems[k] && `${label} does not run: ${found.problems[k]}`);
  byId("comparison").prepend(...problems.filter(Boolean).map((text) => element("p", { class: "problem" }, text)));
}
