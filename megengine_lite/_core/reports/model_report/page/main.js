// Puts the page together: one report is shown at a time, one operator may be chosen.

// What takes so many times as long as nearly all other operators is an exception, such as a first step with cold caches.
// One operator of EXCEPTIONS may be one, at least one of each graph. Colours tell the others apart, if these take more
// than a small part of the time.
const FAR_ABOVE = 4, EXCEPTIONS = 50, SMALL = 0.02;
const MIDDLE = 0.25; // of the hottest time, has half the heat

class Page {
  constructor() {
    this.chosen = null;
    this.colour = "time";
    this.labels = content.reports.map((r) => r.name);
    this.parting = new Map((content.layers ? content.layers.layers : []).map((layer) => [layer.name, layer]));
  }

  show(number) {
    this.number = number;
    this.report = content.reports[number];
    this.chosen = null;
    this.readScale();
    this.names = new Map(this.report.nodes.map((node, k) => [node.name, k]));
    for (const [k, tab] of [...byId("tabs").children].entries()) tab.setAttribute("aria-selected", String(k === number));
    byId("search").value = byId("found").textContent = "";
    showHead(this);
    this.graph.show(this.report);
    showDetails(this);
    this.paint();
  }

  /** Finds the time of the strongest colour: the longest, or less if that is an exception. */
  readScale() {
    const times = this.report.nodes.map((node) => node.ms || 0).filter((ms) => ms > 0).sort((a, b) => b - a);
    const sum = (list) => list.reduce((total, ms) => total + ms, 0);
    const others = times.slice(Math.max(1, Math.floor(times.length / EXCEPTIONS)));
    this.longest = times[0] || 0;
    this.hottest = sum(others) > SMALL * sum(times) ? Math.min(this.longest, FAR_ABOVE * others[0]) : this.longest;
  }

  /** Draws everything that depends on colours or on the width; at once if there is no time, as before printing. */
  paint(atOnce = false) {
    showLegend(this);
    this.graph.draw();
    const parts = [
      showComparison, showLayers, showTreemap, showKinds, showRoofline, () => this.memory.show(), showNumpy, showWeights, markChosen,
    ];
    const painting = (this.painting = {});
    if (atOnce) {
      for (const part of parts) part(this);
      this.complete = true;
      return;
    }
    const next = () => {  // one by one, so that the graph is seen first and answers meanwhile
      if (painting !== this.painting) return;
      const part = parts.shift();
      if (!part) {
        this.complete = true;
        return;
      }
      part(this);
      setTimeout(next);
    };
    requestAnimationFrame(() => setTimeout(next));
  }

  choose(k, moves = false) {
    if (k === undefined) return;
    this.chosen = k;
    if (k !== null && moves) {
      this.graph.goTo(k);
      byId("section-graph").scrollIntoView({ block: "start" });
    }
    this.graph.draw();
    this.memory.draw();
    showDetails(this);
    showFound(this);
    markChosen(this);
  }

  nodeNamed(name) {
    return this.names.get(name);
  }

  shareOf(k) {
    const { ms } = this.report.nodes[k];
    return ms > 0 ? ms / this.report.steps_ms : 0;
  }

  /** Square roots, so that what takes little is told apart, too. */
  timeHeatOf(k) {
    return this.hottest > 0 ? Math.sqrt(Math.min((this.report.nodes[k].ms || 0) / this.hottest, 1)) : 0;
  }

  partingOf(k) {
    return this.parting.get(this.report.nodes[k].name) || null;
  }

  /** The part of the strongest colour that a box has; null where there is nothing to tell. */
  heatOf(k) {
    if (this.colour === "time") return this.hottest > 0 ? this.timeHeatOf(k) : null;
    const layer = this.partingOf(k);
    return layer === null ? null : layer.reason ? 1 : layer.snr_db === null ? 0 : 1 - Math.min(Math.max(layer.snr_db, 0), 160) / 160;
  }

  tipOf(k) {
    const node = this.report.nodes[k];
    const lines = [node.kind === "operator" ? `${node.op} ${node.name}` : `${node.kind} ${node.name}`];
    for (const tensor of (node.outputs || []).slice(0, 1)) lines.push(tensorType(tensor.type, tensor.shape));
    if (node.ms > 0) lines.push(`${msText(node.ms)}, ${shareText(this.shareOf(k))}; ${kernelsOf(node).join(", ")}`);
    if (node.rounds !== undefined) lines.push(countOf(node.rounds, "round"));
    if (node.runs !== undefined) lines.push(`runs ${countOf(node.runs, "time")}`);
    if (node.unknown) lines.push("not known here");
    if (node.failed) lines.push("the run ends here with an error");
    return lines.join("\n");
  }
}

const fact = (title, value) =>
  element("div", { class: "fact" }, element("div", { class: "title" }, title), element("div", { class: "value" }, value));

function showHead(page) {
  const { report } = page;
  byId("name").textContent = report.name;
  byId("problem").hidden = !report.problem;
  byId("problem").textContent = report.problem ? `This model does not run: ${report.problem}` : "";
  byId("note").hidden = !report.note;
  byId("note").textContent = report.note ? `${report.note[0].toUpperCase()}${report.note.slice(1)}.` : "";
  byId("section-graph").hidden = !report.nodes.length;
  const facts = [];
  const { model, machine, ms, roof } = report;
  if (ms) facts.push(["time of a run", `${msText(ms.median)} (${msText(ms.fastest)} to ${msText(ms.slowest)})`]);
  if (ms && report.operations) {
    const speed = report.operations / ms.median / 1e6;
    const part = roof && speed < roof.gflops ? `, ${shareText(speed / roof.gflops)} of the highest measured` : "";
    facts.push(["speed", `${digits(speed)} GFLOP/s${part}`]);
  }
  if (model) {
    const inFile = model.file_operators;
    const running = report.nodes.filter((n) => n.kind === "operator").length;
    facts.push(["operators", ms ? `${running} run, for ${inFile} in the file` : `${inFile} in the file`]);
    facts.push(["parameters", `${countText(model.parameters)}, ${bytesText(model.parameter_bytes)}`]);
    facts.push(["multiply-adds", `${countText(model.multiply_adds_total)}${model.complete ? "" : ", or more"}`]);
    const tensors = (list) =>
      list.slice(0, 4).map((t) => `${t.name}: ${tensorType(t.dtype, t.shape)}`).join("; ") +
      (list.length > 4 ? ` and ${list.length - 4} more` : "");
    if (model.inputs.length) facts.push([model.inputs.length > 1 ? "inputs" : "input", tensors(model.inputs)]);
    if (model.outputs.length) facts.push([model.outputs.length > 1 ? "outputs" : "output", tensors(model.outputs)]);
    facts.push(["file", `${model.container.format}${report.file_bytes ? `, ${bytesText(report.file_bytes)}` : ""}`]);
  }
  if (machine) {
    const { threads, ...rest } = machine;
    for (const [title, value] of Object.entries(rest)) facts.push([title, value]);
    facts.push(["threads", String(threads)]);
  }
  if (report.settings) facts.push(["fusion", report.settings.fusion ? "on" : "off"]);
  clear(byId("facts"), ...facts.map((f) => fact(...f)));
  clear(byId("footer"), `${report.made_by}, ${report.made_at}`);
}

function showLegend(page) {
  const legend = byId("legend");
  const { nodes } = page.report;
  const bar = element("span", { class: "bar" });
  bar.style.background = heatGradient();
  const parts = [];
  if (page.colour === "parting") parts.push("160 dB", bar, "0 dB signal to noise");
  else if (page.hottest > 0) {
    const more = page.hottest < page.longest ? " and more" : "";
    parts.push("0", bar, `${msText(page.hottest)}${more} per operator, ${msText(MIDDLE * page.hottest)} in the middle`);
  }
  if (nodes.some(runsInNumpy)) parts.push(element("span", { class: "sample" }), "runs in numpy");
  if (nodes.some((n) => n.unknown)) parts.push(element("span", { class: "sample wrong" }), "not known");
  if (nodes.some((n) => n.failed)) parts.push(element("span", { class: "sample wrong" }), "fails");
  clear(legend, ...parts);
}

function markChosen(page) {
  for (const mark of document.querySelectorAll("svg [data-node]")) {
    mark.classList.toggle("chosen", page.chosen !== null && Number(mark.dataset.node) === page.chosen);
  }
}

function search(page, moves) {
  const wanted = byId("search").value.trim().toLowerCase();
  const { nodes } = page.report;
  if (!wanted) {
    page.graph.matches = null;
    showFound(page);
    page.graph.draw();
    return;
  }
  const has = (node) => [node.name, node.op, ...kernelsOf(node), ...(node.merged || []), ...(node.views || []).map((v) => v.name)].some((t) => t.toLowerCase().includes(wanted));
  const found = nodes.map((_, k) => k).filter((k) => has(nodes[k]));
  page.graph.matches = new Set(found);
  if (moves && found.length) {
    const next = found.find((k) => page.chosen === null || k > page.chosen);
    page.choose(next === undefined ? found[0] : next);
    page.graph.goTo(page.chosen);
  }
  showFound(page);
  page.graph.draw();
}

/** How many operators are found, and which of them is chosen. */
function showFound(page) {
  const found = [...(page.graph.matches || [])];
  const place = found.indexOf(page.chosen) + 1;
  const said = found.length ? `${place ? `${place} of ` : ""}${found.length} found${place ? "" : ", Enter goes to one"}` : "nothing found";
  byId("found").textContent = page.graph.matches ? said : "";
}

function chooseScheme(dark) {
  document.documentElement.classList.toggle("dark", dark);
  byId("scheme").textContent = dark ? "light" : "dark";
  readColours();
}

const page = new Page();
page.graph = new GraphView(byId("graph"), page);
page.memory = new MemoryView(page);
const prefers = matchMedia("(prefers-color-scheme: dark)");
chooseScheme(prefers.matches);
prefers.addEventListener("change", (event) => {
  chooseScheme(event.matches);
  page.paint();
});
byId("scheme").addEventListener("click", () => {
  chooseScheme(!document.documentElement.classList.contains("dark"));
  page.paint();
});
// Paper is light.
let wasDark = false;
addEventListener("beforeprint", () => {
  wasDark = document.documentElement.classList.contains("dark");
  if (!wasDark) return;
  chooseScheme(false);
  page.paint(true);
});
addEventListener("afterprint", () => {
  if (!wasDark) return;
  chooseScheme(true);
  page.paint();
});
byId("zoom-in").addEventListener("click", () => page.graph.zoom(1.3));
byId("zoom-out").addEventListener("click", () => page.graph.zoom(1 / 1.3));
byId("fit").addEventListener("click", () => page.graph.fit());
byId("search").addEventListener("input", () => search(page, false));
byId("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") search(page, true);
});
byId("colour-label").hidden = !content.layers;
byId("colour").addEventListener("change", (event) => {
  page.colour = event.target.value;
  showLegend(page);
  page.graph.draw();
});
if (content.reports.length > 1) {
  content.reports.forEach((_, k) => {
    byId("tabs").append(element("button", { type: "button", role: "tab", click: () => page.show(k) }, page.labels[k]));
  });
}
let lastWidth = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== lastWidth) page.paint();
  lastWidth = innerWidth;
});
page.show(0);
window.reportPage = page; // for tests
