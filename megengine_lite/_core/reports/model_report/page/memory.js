// Memory over the steps of a run: each piece of the arena from its first to its last step.

const MARGIN = { left: 84, right: 14, top: 12, bottom: 30 };

class MemoryView {
  constructor(page) {
    this.page = page;
    this.canvas = element("canvas", { role: "img", "aria-label": "memory over the steps of a run" });
    this.canvas.addEventListener("mousemove", (e) => this.onMove(e));
    this.canvas.addEventListener("mouseleave", () => this.hover(null));
    this.canvas.addEventListener("click", () => {
      if (this.over !== null) this.page.choose(this.makerOf(this.over), true);
    });
  }

  show() {
    const { memory } = this.page.report;
    byId("section-memory").hidden = !memory;
    this.over = null;
    if (!memory) return;
    const saved = memory.arena > 0 && memory.bytes > memory.arena ? ` Apart they would take ${bytesText(memory.bytes)}.` : "";
    const shown = memory.count > memory.pieces.length ? ` The largest ${memory.pieces.length} are shown.` : "";
    const others = ["weights", "scratch", "outputs"].filter((name) => memory[name] > 0).map((name) => `${bytesText(memory[name])} of ${name}`);
    const beside = others.length ? ` Beside it there are ${others.join(", ").replace(/, ([^,]*)$/, " and $1")}.` : "";
    clear(
      byId("memory"),
      element("p", { class: "muted" },
        memory.count
          ? `The arena of ${bytesText(memory.arena)} holds ${countOf(memory.count, "intermediate result")}: a rectangle is one, ` +
            `from the step that makes it to the last that reads it.${shown}${saved}${beside}`
          : `There are no intermediate results.${beside.replace("Beside it there", "There")}`),
      memory.pieces.length ? element("div", { class: "arena" }, this.canvas) : null,
    );
    this.starts = this.page.report.nodes
      .map((node, k) => [node.first_step, k])
      .filter(([step, k]) => step !== undefined && this.page.report.nodes[k].kernels.length)
      .sort((a, b) => a[0] - b[0]);
    if (!this.observer) {
      this.observer = new ResizeObserver(() => this.draw());
      this.observer.observe(this.canvas);
    }
    this.draw();
  }

  /** The operator whose step is the first that uses a piece. */
  makerOf(piece) {
    const step = this.page.report.memory.pieces[piece][2];
    let found = null;
    for (const [first, k] of this.starts) {
      if (first > step) break;
      found = k;
    }
    return found;
  }

  draw() {
    const { memory } = this.page.report;
    if (!memory || !this.canvas.parentElement) return;
    const { context, width, height } = prepared(this.canvas);
    const top = Math.max(memory.arena, 1);
    const [w, h] = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
    const steps = Math.max(memory.steps, 1);
    this.x = (step) => MARGIN.left + (step / steps) * w;
    this.y = (offset) => MARGIN.top + h - (offset / top) * h;
    context.font = `12px ${FONT}`;
    context.fillStyle = colours.muted;
    context.strokeStyle = colours.line;
    context.textBaseline = "middle";
    context.textAlign = "right";
    const unit = [2 ** 30, 2 ** 20, 2 ** 10, 1].find((u) => u <= top);
    for (const value of ticks(top / unit, 4).map((v) => v * unit)) {
      context.fillText(value ? bytesText(value) : "0", MARGIN.left - 8, this.y(value));
      context.beginPath();
      context.moveTo(MARGIN.left, this.y(value));
      context.lineTo(width - MARGIN.right, this.y(value));
      context.stroke();
    }
    context.textAlign = "center";
    for (const value of ticks(steps, 8).map(Math.round)) {
      const half = context.measureText(String(value)).width / 2;
      context.fillText(String(value), Math.min(this.x(value), width - half - 4), height - MARGIN.bottom + 14);
    }
    context.textAlign = "right";
    context.fillText("step", MARGIN.left - 8, height - MARGIN.bottom + 14);
    const chosen = this.page.chosen;
    memory.pieces.forEach((piece, k) => {
      const [x, y, a, b] = this.placeOf(piece);
      const isMine = chosen !== null && this.makerOf(k) === chosen;
      context.fillStyle = k === this.over || isMine ? colours.accent : colours.piece;
      context.fillRect(x, y, Math.max(a, 1), Math.max(b, 0.5));
      if (a > 2 && b > 2) {
        context.strokeStyle = colours.back;
        context.strokeRect(x, y, a, b);
      }
    });
  }

  placeOf([offset, nbytes, first, last]) {
    const [x, y] = [this.x(first), this.y(offset + nbytes)];
    return [x, y, this.x(last + 1) - x, this.y(offset) - y];
  }

  onMove(event) {
    const [x, y] = placeIn(this.canvas, event);
    const { pieces } = this.page.report.memory;
    let found = null;
    for (let k = pieces.length - 1; k >= 0 && found === null; k--) {
      const [px, py, w, h] = this.placeOf(pieces[k]);
      if (x >= px && x <= px + Math.max(w, 1) && y >= py && y <= py + Math.max(h, 2)) found = k;
    }
    this.hover(found);
    if (found === null) return;
    const [offset, nbytes, first, last] = pieces[found];
    const maker = this.makerOf(found);
    const node = maker === null ? null : this.page.report.nodes[maker];
    showTip(event, `${bytesText(nbytes)} from ${bytesText(offset)} on, steps ${first} to ${last}${node ? `\n${node.op} ${node.name}` : ""}`);
  }

  hover(piece) {
    if (piece === null) hideTip();
    if (piece === this.over) return;
    this.over = piece;
    this.draw();
  }
}

/** Round numbers from 0 up to a limit. */
function ticks(limit, wanted) {
  const rough = limit / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough);
  const found = [];
  for (let value = 0; value <= limit * (1 + 1e-9); value += step) found.push(value);
  return found;
}
