// Curves: one small picture a figure, the step under the pointer marked in all of them.
const WIDE = 200; // units of about a pixel, so that figures at the ticks can be read
const HIGH = 60;
const LEFT = 38; // for the figures at the ticks
const FIRST = ["reward", "tests passed", "pass_rate", "pass_degree", "reward against tests", "length", "finished", "flat_groups", "entropy", "kl", "gap_max", "grad_norm", "page_gain", "nll", "nll_page", "margin_mean", "accuracy_mean", "step_s"];
const MEANING = {
  "tests passed": "share of the tests that samples pass, judged here",
  "reward against tests": "pairs of siblings that the reward orders against the tests",
  flat_groups: "groups without a signal",
  gap_max: "largest gap of sampler and learner, nats",
  finished: "samples that ended by themselves",
  step_s: "seconds a step",
};

function ticksOf(low, high) {
  const span = high - low || Math.abs(high) || 1;
  const unit = 10 ** Math.floor(Math.log10(span));
  const step = [0.2, 0.5, 1, 2, 5].map((size) => size * unit).find((size) => span / size <= 3) || 5 * unit;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, k) => Number((step * (first + k)).toPrecision(12)));
}

function smooth(curve) {
  const reach = Math.floor(curve.length / 20);
  return curve.map(([x], at) => {
    const some = curve.slice(Math.max(0, at - reach), at + reach + 1);
    return [x, some.reduce((sum, [, y]) => sum + y, 0) / some.length];
  });
}

const charts = []; // { curve, place, mark, value }

function chart(name, curve, span) {
  const values = curve.map(([, y]) => y);
  const ticks = ticksOf(Math.min(...values), Math.max(...values));
  const [bottom, top] = [Math.min(ticks[0], ...values), Math.max(ticks[ticks.length - 1], ...values)];
  const place = (x, y) => [((x - span[0]) / (span[1] - span[0] || 1)) * WIDE, HIGH - ((y - bottom) / (top - bottom || 1)) * HIGH];
  const path = (some) => some.map(([x, y]) => place(x, y).map((n) => n.toFixed(1)).join(",")).join(" ");
  const mark = svg("g", { class: "mark", hidden: true }, svg("line", { y1: 0, y2: HIGH }), svg("circle", { r: 3 }));
  const value = el("output", {}, amount(values[values.length - 1]));
  const few = curve.length <= 12;
  const picture = svg("svg", { viewBox: `${-LEFT} -8 ${LEFT + WIDE + 6} ${HIGH + 22}`, role: "img", "aria-label": `${name}, ${amount(values[0])} to ${amount(values[values.length - 1])}` },
    ticks.map((tick) => {
      const y = place(span[0], tick)[1];
      return [svg("line", { class: "grid", x1: 0, x2: WIDE, y1: y, y2: y }), svg("text", { x: -5, y: y + 3, "text-anchor": "end" }, amount(tick))];
    }),
    svg("text", { x: 0, y: HIGH + 13 }, span[0]),
    svg("text", { x: WIDE, y: HIGH + 13, "text-anchor": "end" }, span[1]),
    few ? null : svg("polyline", { class: "raw", points: path(curve) }),
    svg("polyline", { class: "smooth", points: path(few ? curve : smooth(curve)) }),
    few ? curve.map(([x, y]) => svg("circle", { class: "dot", cx: place(x, y)[0], cy: place(x, y)[1], r: 2 })) : null,
    mark);
  charts.push({ curve, place, mark, value });
  const nearest = (event) => {
    const box = picture.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * (LEFT + WIDE + 6) - LEFT;
    return Math.round(span[0] + (x / WIDE) * (span[1] - span[0]));
  };
  picture.addEventListener("pointermove", (event) => markStep(nearest(event)));
  picture.addEventListener("pointerleave", () => markStep(null));
  picture.addEventListener("click", (event) => openStep(nearest(event)));
  return el("figure", { class: "chart", title: MEANING[name] }, el("figcaption", {}, el("span", {}, name), value), picture);
}

function markStep(step) {
  for (const { curve, place, mark, value } of charts) {
    const shown = step === null ? curve[curve.length - 1] : curve.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
    value.textContent = (step === null ? "" : `${shown[0]}: `) + amount(shown[1]);
    mark.toggleAttribute("hidden", step === null);
    const [x, y] = place(...shown);
    mark.firstChild.setAttribute("x1", x);
    mark.firstChild.setAttribute("x2", x);
    mark.lastChild.setAttribute("cx", x);
    mark.lastChild.setAttribute("cy", y);
  }
}

function curvesView() {
  charts.length = 0;
  const names = Object.keys(RUN.curves).filter((name) => RUN.curves[name].length > 1);
  if (!names.length) return null;
  const steps = names.flatMap((name) => [RUN.curves[name][0][0], RUN.curves[name][RUN.curves[name].length - 1][0]]);
  const span = [Math.min(...steps), Math.max(...steps)];
  const held = names.filter((name) => name.startsWith("held out: "));
  const open = [...FIRST.slice(0, 2), ...held, ...FIRST.slice(2)].filter((name) => names.includes(name));
  const folded = names.filter((name) => !open.includes(name)).sort();
  const more = el("div", { class: "charts" });
  const fold = el("details", { ontoggle: () => { if (fold.open && !more.firstChild) more.append(...folded.map((name) => chart(name, RUN.curves[name], span))); } },
    el("summary", {}, `${folded.length} more figures`), more);
  return el("section", {}, el("h2", {}, "Curves"), el("div", { class: "charts" }, open.map((name) => chart(name, RUN.curves[name], span))), folded.length ? fold : null);
}
