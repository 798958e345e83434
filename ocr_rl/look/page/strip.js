// The strip: a cell a group, a column a step. Rows are pages where they come again, else the groups of a step.
const SHADES = {
  truth: ["tests passed", (v) => v[VISIT.truth], "share of the tests that the samples pass"],
  reward: ["reward", (v) => v[VISIT.reward], "mean reward of the samples"],
  best: ["best sample", (v) => v[VISIT.best], "share of the tests that the best sample passes"],
  split: ["disagreement", (v) => v[VISIT.split], "share of the tests on which siblings disagree: what teaches"],
};
const strip = { shade: "truth", rows: null, step: null, row: 0, draw: null };

function rowsOfStrip() {
  const pages = new Map();
  for (const visit of LEARNING) pages.set(visit[VISIT.page], [...(pages.get(visit[VISIT.page]) || []), visit]);
  const again = LEARNING.length > 1.5 * pages.size && pages.size <= 400;
  if (!again) {
    const rank = new Map(STEPS.map((step) => [step, 0]));
    const sorted = [...LEARNING].sort((a, b) => (b[VISIT.truth] ?? b[VISIT.reward] ?? 0) - (a[VISIT.truth] ?? a[VISIT.reward] ?? 0));
    const cells = sorted.map((visit) => { const row = rank.get(visit[VISIT.step]); rank.set(visit[VISIT.step], row + 1); return { visit, row }; });
    return { cells, count: Math.max(1, ...rank.values()), by: "groups of the step, the best on top" };
  }
  const change = (visits) => (visits[visits.length - 1][VISIT.truth] ?? 0) - (visits[0][VISIT.truth] ?? 0);
  const order = [...pages.values()].map((visits) => visits.sort((a, b) => a[VISIT.step] - b[VISIT.step])).sort((a, b) => change(b) - change(a));
  return { cells: order.flatMap((visits, row) => visits.map((visit) => ({ visit, row }))), count: order.length, by: "pages, the most improved on top" };
}

function stripView() {
  if (!LEARNING.length) return null;
  strip.rows = strip.rows || rowsOfStrip();
  const { cells, count, by: rows } = strip.rows;
  const column = new Map(STEPS.map((step, k) => [step, k]));
  const canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": "groups by step; arrows move, Enter opens" });
  const line = el("p", { class: "line" }, "Point at a cell; a click opens the group.");
  const axis = el("div", { class: "axis" }, el("span", {}, `step ${STEPS[0]}`), el("span", {}, STEPS[STEPS.length - 1]));
  const size = { wide: 0, high: Math.max(4, Math.min(18, Math.floor(420 / count))) };
  const at = (k, row) => cells.find((cell) => column.get(cell.visit[VISIT.step]) === k && cell.row === row);

  strip.draw = () => {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.parentElement.clientWidth;
    size.wide = Math.min(48, width / STEPS.length);
    axis.style.setProperty("width", `${size.wide * STEPS.length}px`);
    canvas.style.setProperty("width", `${size.wide * STEPS.length}px`);
    canvas.style.setProperty("height", `${size.high * count}px`);
    canvas.width = Math.max(1, size.wide * STEPS.length * ratio);
    canvas.height = size.high * count * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const value = SHADES[strip.shade][1];
    const gap = size.wide > 5 && size.high > 5 ? 1 : 0;
    for (const { visit, row } of cells) {
      const shade = value(visit);
      pen.fillStyle = isNumber(shade) ? rgb(heat(shade)) : "rgb(128 128 128 / .35)";
      pen.fillRect(column.get(visit[VISIT.step]) * size.wide, row * size.high, size.wide - gap, size.high - gap);
    }
    if (strip.step !== null) {
      pen.strokeStyle = getComputedStyle(canvas).color;
      pen.lineWidth = 2;
      pen.strokeRect(strip.step * size.wide - 1, strip.row * size.high - 1, size.wide + 1, size.high + 1);
    }
  };
  const point = (k, row) => {
    const cell = at(k, row);
    if (!cell) return null;
    const v = cell.visit;
    line.replaceChildren(el("b", {}, `step ${v[VISIT.step]}`), ` ${RUN.pages[v[VISIT.page]]} · reward ${fixed(v[VISIT.reward])} ± ${fixed(v[VISIT.spread])} · tests passed ${percent(v[VISIT.truth])}, best ${percent(v[VISIT.best])} · siblings disagree on ${percent(v[VISIT.split])}`);
    markStep(v[VISIT.step]);
    return cell;
  };
  const cellUnder = (event) => {
    const box = canvas.getBoundingClientRect();
    return [Math.floor((event.clientX - box.left) / size.wide), Math.floor((event.clientY - box.top) / size.high)];
  };
  canvas.addEventListener("pointermove", (event) => { [strip.step, strip.row] = cellUnder(event); point(strip.step, strip.row); strip.draw(); });
  canvas.addEventListener("pointerleave", () => { markStep(null); strip.step = null; strip.draw(); });
  canvas.addEventListener("click", (event) => { const cell = at(...cellUnder(event)); if (cell) location.hash = linkTo(cell.visit); });
  strip.move = (dx, dy) => {
    const start = strip.step === null ? 0 : strip.step;
    const inColumn = (k) => cells.filter((cell) => column.get(cell.visit[VISIT.step]) === k).map((cell) => cell.row).sort((a, b) => a - b);
    strip.step = Math.min(STEPS.length - 1, Math.max(0, start + dx));
    const rowsHere = inColumn(strip.step);
    const near = rowsHere.reduce((best, row, i) => (Math.abs(row - strip.row) < Math.abs(rowsHere[best] - strip.row) ? i : best), 0);
    strip.row = rowsHere[Math.min(rowsHere.length - 1, Math.max(0, near + dy))];
    point(strip.step, strip.row);
    strip.draw();
  };
  strip.open = () => { const cell = strip.step === null ? null : at(strip.step, strip.row); if (cell) location.hash = linkTo(cell.visit); };
  const select = el("select", { "aria-label": "shade of a cell", onchange: () => { strip.shade = select.value; strip.draw(); meaning.textContent = SHADES[strip.shade][2]; } },
    Object.entries(SHADES).map(([key, [name]]) => el("option", { value: key, selected: key === strip.shade }, name)));
  const meaning = el("span", { class: "soft" }, SHADES[strip.shade][2]);
  const scale = el("span", { class: "scale", "aria-hidden": "true" }, "0", el("i"), "1");
  return el("section", {}, el("h2", {}, "Groups by step"),
    el("p", { class: "tools" }, select, meaning, scale, el("span", { class: "soft" }, `rows: ${rows}`)),
    el("div", { class: "strip" }, canvas),
    axis, line);
}
