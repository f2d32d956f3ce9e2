// The time of a run as a treemap: the area of a rectangle is the time of an operator.

const MOST_CELLS = 1200, HEAD = 18, CLEARLY_MORE = 1.2;

/** Rectangles as square as they can be. `items` have `value`, largest first; gives [item, x, y, w, h]. */
function squarified(items, x, y, w, h) {
  const total = items.reduce((sum, item) => sum + item.value, 0);
  const placed = [];
  if (!(total > 0) || w <= 0 || h <= 0) return placed;
  const scale = (w * h) / total;
  let row = [], area = 0, k = 0;
  const worst = (sum, least, most, side) => Math.max((side * side * most) / (sum * sum), (sum * sum) / (side * side * least));
  const flush = () => {
    const along = w >= h;
    const thick = area / (along ? h : w);
    let at = along ? y : x;
    for (const item of row) {
      const long = (item.value * scale) / thick;
      placed.push(along ? [item, x, at, thick, long] : [item, at, y, long, thick]);
      at += long;
    }
    if (along) [x, w] = [x + thick, w - thick];
    else [y, h] = [y + thick, h - thick];
    [row, area] = [[], 0];
  };
  while (k < items.length) {
    const side = Math.min(w, h);
    const next = items[k].value * scale;
    if (next <= 0) break;
    const sizes = row.map((i) => i.value * scale);
    const before = row.length ? worst(area, Math.min(...sizes), Math.max(...sizes), side) : Infinity;
    const after = worst(area + next, Math.min(next, ...sizes), Math.max(next, ...sizes), side);
    if (row.length && after > before) flush();
    else {
      row.push(items[k]);
      area += next;
      k += 1;
    }
  }
  if (row.length) flush();
  return placed;
}

/** Operators by kind, those that take little time put together. */
function groupsOf(page) {
  const { nodes } = page.report;
  const timed = nodes.map((_, k) => k).filter((k) => nodes[k].kind === "operator" && nodes[k].ms > 0);
  timed.sort((a, b) => nodes[b].ms - nodes[a].ms);
  const groups = new Map();
  timed.forEach((k, place) => {
    const group = groups.get(nodes[k].op) || { op: nodes[k].op, value: 0, items: [], rest: { value: 0, count: 0, node: null } };
    group.value += nodes[k].ms;
    if (place < MOST_CELLS) group.items.push({ value: nodes[k].ms, node: k });
    else {
      group.rest.value += nodes[k].ms;
      group.rest.count += 1;
    }
    groups.set(nodes[k].op, group);
  });
  for (const group of groups.values()) if (group.rest.count) group.items.push(group.rest);
  return [...groups.values()].sort((a, b) => b.value - a.value);
}

function showTreemap(page) {
  const has = page.report.steps_ms > 0;
  byId("section-time").hidden = !has;
  byId("section-numpy").hidden = !has;
  if (!has) return;
  const place = byId("treemap");
  const width = Math.max(place.clientWidth, 300), height = Math.max(260, Math.min(420, width * 0.32));
  const drawing = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "time of each operator" });
  for (const [group, x, y, w, h] of squarified(groupsOf(page), 0, 0, width, height)) {
    const head = h > 34 && w > 46 ? HEAD : 0;
    for (const [item, ix, iy, iw, ih] of squarified(group.items, x + 1, y + head + 1, Math.max(w - 2, 0.5), Math.max(h - head - 2, 0.5))) {
      addCell(page, drawing, group, item, ix, iy, iw, ih, !head);
    }
    drawing.append(shape("rect", { class: "group", x: x + 0.5, y: y + 0.5, width: Math.max(w - 1, 0), height: Math.max(h - 1, 0) }));
    if (head) {
      const whole = `${group.op}  ${shareText(group.value / page.report.steps_ms)}`;
      const text = widthOf(whole) <= w - 8 ? whole : fitted(group.op, w - 8, undefined, shortenedAtEnd);
      drawing.append(shape("text", { class: "label", x: x + 5, y: y + 13 }, text));
    }
  }
  const { steps_ms: inSteps, ms } = page.report;
  const clock = inSteps > CLEARLY_MORE * ms?.median ? ", since no clock is read between its steps" : "";
  const run = ms ? `; a run takes ${msText(ms.median)}${clock}` : "";
  const shares = `Shares are parts of the ${msText(inSteps)} of all steps${run}.`;
  clear(place, element("p", { class: "muted" }, `The area of a rectangle is the time that an operator takes. ${shares}`), element("div", { class: "plot" }, drawing));
}

function addCell(page, drawing, group, item, x, y, w, h, isSmall) {
  const node = item.node === null ? null : page.report.nodes[item.node];
  const colour = item.node === null ? heat(0) : heat(page.timeHeatOf(item.node));
  const cell = shape("rect", { class: "cell", x, y, width: Math.max(w, 0), height: Math.max(h, 0), fill: css(colour) });
  const text = node ? page.tipOf(item.node) : `${group.op}: ${item.count} others\n${msText(item.value)}`;
  withTip(cell, text);
  if (node) {
    cell.dataset.node = item.node;
    cell.addEventListener("click", () => page.choose(item.node, true));
  }
  drawing.append(cell);
  if (h < 16 || w < 34) return;
  const label = isSmall ? group.op : node ? titleOf(node) : `${item.count} others`;
  const lines = [fitted(label, w - 8, undefined, (text, most) => (most < 6 ? "" : shortened(text, most))), h < 32 ? "" : fitted(msText(item.value), w - 8, undefined, () => "")];
  lines.forEach((line, k) => {
    const text = shape("text", { class: "label", x: x + 4, y: y + 13 + 14 * k }, line);
    text.style.fill = inkOn(colour);
    if (line && lines[0]) drawing.append(text);
  });
}
