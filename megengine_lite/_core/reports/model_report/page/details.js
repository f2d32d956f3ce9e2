// The panel beside the graph: one operator, or those that take longest.

const pair = (key, value) => [element("div", { class: "key" }, key), element("div", { class: "value" }, value)];
const pairs = (...rows) => element("div", { class: "pairs" }, ...rows.filter(Boolean).flat());

function tensorText(tensor) {
  const text = tensorType(tensor.type, tensor.shape);
  return tensor.memory ? `${text}, ${tensor.memory}` : text;
}

function list(title, items) {
  if (!items.length) return null;
  return element("div", {}, element("h4", {}, title), element("ul", { class: "list" }, ...items.map((i) => element("li", {}, i))));
}

/** A button that goes to an operator. */
function linkTo(page, k, extra = "") {
  const node = page.report.nodes[k];
  const text = node.kind === "operator" && node.name !== node.op ? `${node.op} ${node.name}` : titleOf(node);
  return element("button", { class: "link", type: "button", click: () => page.choose(k, true) }, `${text}${extra}`);
}

function showDetails(page) {
  const panel = byId("details");
  panel.scrollTop = 0;
  if (page.chosen === null) clear(panel, ...overview(page));
  else clear(panel, ...operator(page, page.chosen));
}

function overview(page) {
  const { nodes } = page.report;
  const order = nodes.map((_, k) => k).filter((k) => nodes[k].ms > 0).sort((a, b) => nodes[b].ms - nodes[a].ms);
  const unknown = nodes.map((_, k) => k).filter((k) => nodes[k].unknown);
  const failed = nodes.map((_, k) => k).filter((k) => nodes[k].failed);
  return [
    element("p", { class: "muted" }, "Click an operator to see its parameters, shapes and kernels. The wheel zooms, dragging moves."),
    list("Not supported", unknown.slice(0, 50).map((k) => linkTo(page, k, nodes[k].inside && ` with ${nodes[k].inside.join(", ")}`))),
    list("The run ends at", failed.map((k) => linkTo(page, k))),
    list("Take longest", order.slice(0, 12).map((k) => linkTo(page, k, `  ${msText(nodes[k].ms)}, ${shareText(page.shareOf(k))}`))),
  ];
}

function operator(page, k) {
  const node = page.report.nodes[k];
  const { edges } = page.report;
  const speed = speedOf(node);
  const parting = page.partingOf(k);
  const before = edges.filter((e) => e[1] === k).map((e) => linkTo(page, e[0]));
  const after = edges.filter((e) => e[0] === k).map((e) => linkTo(page, e[1]));
  const parameters = Object.entries(node.parameters || {});
  return [
    element("h3", {}, titleOf(node)),
    element("p", { class: "muted" }, node.kind === "operator" ? node.op : `${node.kind} of the model`),
    node.unknown && !node.inside ? element("p", { class: "problem" }, "This operator is not known here, so the model cannot run.") : null,
    node.failed ? element("p", { class: "problem" }, "The run ends here, with the error that stands above.") : null,
    node.inside ? element("p", { class: "problem" }, "Inside of this operator are some that are not known here, so the model cannot run.") : null,
    list("Not known inside", (node.inside || []).map((text) => element("span", {}, text))),
    pairs(
      node.rounds !== undefined && pair("rounds", String(node.rounds)),
      node.runs !== undefined && pair("runs", countOf(node.runs, "time")),
      node.ms !== undefined && pair("time", node.ms > 0 ? `${msText(node.ms)}, ${shareText(page.shareOf(k))}` : "none of its own"),
      speed !== null && pair("speed", `${digits(speed)} GFLOP/s`),
      node.operations > 0 && pair("operations", countText(node.operations)),
      node.bytes > 0 && pair("moves", `${bytesText(node.bytes)} in and out`),
      node.operations > 0 && node.bytes > 0 && pair("intensity", `${digits(node.operations / node.bytes)} operations per byte`),
      node.first_step !== undefined && node.kernels.length && pair("step", `${node.first_step} of ${page.report.memory.steps}`),
      parting && pair("difference", partingText(parting)),
    ),
    list("Kernels", (node.kernels || []).map((e) => `${e.kernel}${e.steps > 1 ? ` (${e.steps} steps)` : ""}: ${msText(e.ms)}`)),
    list("Results", (node.outputs || []).map((t) => `${t.name && t.name !== node.name ? `${t.name}: ` : ""}${tensorText(t)}`)),
    list("Reads", (node.inputs || []).map(tensorText)),
    parameters.length ? element("h4", {}, "Parameters") : null,
    parameters.length ? pairs(...parameters.map(([key, value]) => pair(key, String(value)))) : null,
    list("Stands for, in the file", node.merged || []),
    list("Read as", (node.views || []).map((v) => `${v.op} ${v.name}: ${v.outputs.map(tensorText).join("; ")}`)),
    list("From", before),
    list("To", after),
  ].filter(Boolean);
}
