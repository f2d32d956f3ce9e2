// The graph: boxes and arrows on a canvas, of which only what is in view is drawn.

const SHOW_NAMES = 0.62, SHOW_OPERATORS = 0.3, MOST_ZOOM = 2.5, CELL = 512;
// More arrows in view cannot be told apart, and take too long to draw while the graph is moved.
const MOST_ARROWS = 12000;
// Of the colours of boxes that a search has not found. Their texts stay readable.
const FADED = 0.25, FADED_TEXT = 0.7;

class GraphView {
  /** `page` gives the report, and is told of choices. */
  constructor(canvas, page) {
    this.canvas = canvas;
    this.page = page;
    this.scale = 1;
    this.whole = true; // until it is moved
    this.left = this.top = 0;
    this.matches = null;
    this.pointers = new Map();
    this.waiting = false;
    canvas.addEventListener("wheel", (e) => this.onWheel(e), { passive: false });
    canvas.addEventListener("pointerdown", (e) => this.onDown(e));
    canvas.addEventListener("pointermove", (e) => this.onMove(e));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (e) => this.onUp(e));
    canvas.addEventListener("pointerleave", hideTip);
    canvas.addEventListener("keydown", (e) => this.onKey(e));
    new ResizeObserver(() => (this.whole && this.report ? this.fit() : this.draw())).observe(canvas.parentElement);
  }

  show(report) {
    this.report = report;
    this.matches = null;
    const { x, y, paths, box } = report.layout;
    this.boxes = new Grid();
    this.arrows = new Grid();
    report.nodes.forEach((_, k) => {
      this.boxes.add(k, x[k] - box[0] / 2, y[k] - box[1] / 2, x[k] + box[0] / 2, y[k] + box[1] / 2);
    });
    paths.forEach((path, e) => {
      for (let k = 2; k < path.length; k += 2) {
        const [a, b, c, d] = path.slice(k - 2, k + 2);
        this.arrows.add(e, Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d));
      }
    });
    this.fit();
  }

  get size() {
    const place = this.canvas.parentElement;
    return [place.clientWidth, place.clientHeight];
  }

  fit() {
    const [width, height] = this.size;
    const [w, h] = this.report.layout.size;
    this.whole = true;
    if (!width || !height) return; // not shown yet, as in a notebook that is being opened
    this.scale = Math.min(1.15, (width - 32) / Math.max(w, 1), (height - 32) / Math.max(h, 1));
    this.left = (width - w * this.scale) / 2;
    this.top = (height - h * this.scale) / 2;
    this.draw();
  }

  zoom(factor, x = this.size[0] / 2, y = this.size[1] / 2) {
    const [width, height] = this.size;
    const [w, h] = this.report.layout.size;
    const least = Math.min(0.5, (0.6 * width) / Math.max(w, 1), (0.6 * height) / Math.max(h, 1));
    const scale = Math.min(Math.max(this.scale * factor, least), MOST_ZOOM);
    this.whole = false;
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.draw();
  }

  /** Moves a box into the middle, and near enough to read it. */
  goTo(k) {
    const [width, height] = this.size;
    this.scale = Math.max(this.scale, 0.9);
    this.whole = false;
    this.left = width / 2 - this.report.layout.x[k] * this.scale;
    this.top = height / 2 - this.report.layout.y[k] * this.scale;
    this.draw();
  }

  boxAt(x, y) {
    const [gx, gy] = [(x - this.left) / this.scale, (y - this.top) / this.scale];
    const { x: xs, y: ys, box } = this.report.layout;
    for (const k of this.boxes.within(gx, gy, gx, gy)) {
      if (Math.abs(xs[k] - gx) <= box[0] / 2 && Math.abs(ys[k] - gy) <= box[1] / 2) return k;
    }
    return null;
  }

  // ---- mouse, fingers, keys

  onWheel(event) {
    event.preventDefault();
    const [x, y] = placeIn(this.canvas, event);
    this.zoom(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0015)), x, y);
  }

  onDown(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, placeIn(this.canvas, event));
    this.moved = 0;
  }

  onMove(event) {
    const place = placeIn(this.canvas, event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.hover(event, place);
      return;
    }
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
    if (others.length) {
      const distance = (p) => Math.hypot(p[0] - others[0][0], p[1] - others[0][1]);
      this.zoom(distance(place) / Math.max(distance(before), 1), others[0][0], others[0][1]);
      this.moved = 99;
    } else {
      this.whole = false;
      this.left += place[0] - before[0];
      this.top += place[1] - before[1];
      this.moved += Math.abs(place[0] - before[0]) + Math.abs(place[1] - before[1]);
      this.draw();
    }
    this.pointers.set(event.pointerId, place);
  }

  onUp(event) {
    const place = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (place && event.type === "pointerup" && this.moved < 5) this.page.choose(this.boxAt(...place));
  }

  hover(event, place) {
    const k = this.boxAt(...place);
    this.canvas.style.cursor = k === null ? "grab" : "pointer";
    if (k === null) hideTip();
    else showTip(event, this.page.tipOf(k));
  }

  onKey(event) {
    const step = 60;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key in moves) {
      this.whole = false;
      this.left += moves[event.key][0];
      this.top += moves[event.key][1];
      this.draw();
    } else if (event.key === "+" || event.key === "=") this.zoom(1.3);
    else if (event.key === "-") this.zoom(1 / 1.3);
    else if (event.key === "0") this.fit();
    else if (event.key === "Escape") this.page.choose(null);
    else return;
    event.preventDefault();
  }

  // ---- drawing

  draw() {
    if (this.waiting || !this.report) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
      this.painted ??= performance.now();
    });
  }

  paint() {
    const { context, width, height } = prepared(this.canvas);
    context.fillStyle = colours.back;
    context.fillRect(0, 0, width, height);
    context.translate(this.left, this.top);
    context.scale(this.scale, this.scale);
    const view = [-this.left / this.scale, -this.top / this.scale];
    view.push(view[0] + width / this.scale, view[1] + height / this.scale);
    const chosen = this.page.chosen;
    const edges = this.report.edges;
    const near = (e) => chosen !== null && (edges[e][0] === chosen || edges[e][1] === chosen);
    const visible = this.arrows.within(...view);
    const tooMany = visible.length > MOST_ARROWS;
    byId("arrows").hidden = !tooMany;
    if (!tooMany) this.paintArrows(context, visible.filter((e) => !near(e)), colours.arrow, 1);
    else byId("arrows").textContent = `${visible.length} arrows are too many to draw: zoom in, or choose a box to see its own`;
    if (chosen !== null) {
      this.paintArrows(context, edges.flatMap((_, e) => (near(e) ? [e] : [])), colours.accent, 2);
    }
    for (const k of this.boxes.within(...view)) this.paintBox(context, k);
  }

  paintArrows(context, numbers, colour, width) {
    const thin = Math.max(1, 0.7 / this.scale);
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = width * thin;
    context.beginPath();
    for (const e of numbers) tracePath(context, this.report.layout.paths[e]);
    context.stroke();
    if (this.scale < SHOW_OPERATORS) return;
    context.beginPath();
    for (const e of numbers) {
      const [x, y] = this.report.layout.paths[e].slice(-2);
      context.moveTo(x, y);
      context.lineTo(x - 3.5, y - 6);
      context.lineTo(x + 3.5, y - 6);
    }
    context.fill();
  }

  paintBox(context, k) {
    const node = this.report.nodes[k];
    const { x: xs, y: ys, box } = this.report.layout;
    const [x, y] = [xs[k] - box[0] / 2, ys[k] - box[1] / 2];
    const isOperator = node.kind === "operator";
    const part = isOperator ? this.page.heatOf(k) : null;
    const faded = this.matches && !this.matches.has(k) && k !== this.page.chosen;
    const usual = part === null ? rgb(isOperator ? colours.box : colours.panel) : heat(part);
    const back = faded ? mixed(rgb(colours.back), usual, FADED) : usual;
    context.fillStyle = css(back);
    context.strokeStyle = colours["box-line"];
    context.lineWidth = Math.max(1, 0.6 / this.scale);
    context.beginPath();
    if (this.scale < 0.15) context.rect(x, y, box[0], box[1]);
    else context.roundRect(x, y, box[0], box[1], isOperator ? 5 : box[1] / 2);
    context.fill();
    context.globalAlpha = faded ? FADED : 1;
    if (isOperator && runsInNumpy(node)) {
      context.setLineDash([6, 4]);
      context.strokeStyle = colours.text;
      context.lineWidth = 1.8;
    }
    if (node.unknown || node.failed) [context.strokeStyle, context.lineWidth] = [colours.wrong, Math.max(2.5, 1.5 / this.scale)];
    if (this.matches && this.matches.has(k)) [context.strokeStyle, context.lineWidth] = [colours.accent, 2];
    if (k === this.page.chosen) [context.strokeStyle, context.lineWidth] = [colours.accent, Math.max(3.5, 2 / this.scale)];
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = faded ? FADED_TEXT : 1;
    if (this.scale >= SHOW_OPERATORS) this.paintText(context, node, k, x, y, box, part === null ? colours.text : inkOn(back));
    context.globalAlpha = 1;
  }

  paintText(context, node, k, x, y, box, ink) {
    const isOperator = node.kind === "operator";
    const indent = isOperator ? 7 : 15; // the ends of other boxes are round
    context.fillStyle = ink;
    context.textBaseline = "middle";
    const share = this.page.shareOf(k);
    const room = box[0] - 2 * indent;
    if (this.scale < SHOW_NAMES) {  // one line, as large as it can be
      const title = isOperator ? node.op : titleOf(node);
      const size = [19, 18, 17, 16, 15].find((px) => widthOf(title, `600 ${px}px ${FONT}`) <= room) ?? 14;
      context.font = `600 ${size}px ${FONT}`;
      const cut = isOperator ? shortenedAtEnd : shortened;
      context.fillText(fitted(title, room, context.font, cut), x + indent, y + box[1] / 2 + 1);
      return;
    }
    context.font = `600 12px ${FONT}`;
    context.fillText(fitted(node.op, room, context.font, shortenedAtEnd), x + indent, y + 12.5);
    const note = node.unknown ? "not known" : node.failed ? "fails" : share >= 0.005 ? shareText(share) : "";
    const taken = note ? context.measureText(note).width + 8 : 0;
    if (note) {
      context.textAlign = "right";
      context.fillText(note, x + box[0] - 7, y + 27);
      context.textAlign = "left";
    }
    context.font = `11px ${FONT}`;
    context.fillText(fitted(node.name, room - taken, context.font), x + indent, y + 27);
  }
}

/** Numbers of things by the squares of a grid that they touch. */
class Grid {
  constructor() {
    this.cells = new Map();
  }

  add(number, x0, y0, x1, y1) {
    for (let i = Math.floor(x0 / CELL); i <= Math.floor(x1 / CELL); i++) {
      for (let j = Math.floor(y0 / CELL); j <= Math.floor(y1 / CELL); j++) {
        const key = i * 65536 + j;
        const cell = this.cells.get(key);
        if (cell) cell.push(number);
        else this.cells.set(key, [number]);
      }
    }
  }

  within(x0, y0, x1, y1) {
    const found = new Set();
    const [i0, i1, j0, j1] = [x0, x1, y0, y1].map((v) => Math.floor(v / CELL));
    if ((i1 - i0 + 1) * (j1 - j0 + 1) > this.cells.size) {
      for (const cell of this.cells.values()) for (const n of cell) found.add(n);
    } else {
      for (let i = i0; i <= i1; i++) {
        for (let j = j0; j <= j1; j++) for (const n of this.cells.get(i * 65536 + j) || []) found.add(n);
      }
    }
    return [...found];
  }
}

/** Lines where two points lie beside or below each other, otherwise curves that leave and arrive vertically. */
function tracePath(context, path) {
  context.moveTo(path[0], path[1]);
  for (let k = 2; k < path.length; k += 2) {
    const [x0, y0, x1, y1] = path.slice(k - 2, k + 2);
    if (x0 === x1 || y0 === y1) context.lineTo(x1, y1);
    else context.bezierCurveTo(x0, (y0 + y1) / 2, x1, (y0 + y1) / 2, x1, y1);
  }
}

function placeIn(canvas, event) {
  const place = canvas.getBoundingClientRect();
  return [event.clientX - place.left, event.clientY - place.top];
}
