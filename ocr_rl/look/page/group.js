// A page at a step: its image, its samples against its tests, what each earned, and the text of one beside another.
const shown = { key: "", mode: "", other: "", from: 0 };
let turn = 0; // what was asked for earlier and comes later is dropped

const passShare = (sample) => (sample.bits ? [...sample.bits].filter((bit) => bit === "1").length / sample.bits.length : null);
const isHeldOut = (visit) => Boolean(RUN.sets[visit[VISIT.set]]);

// The group of a visit; of a held-out page its transcripts at all evaluations, which are then its columns.
async function groupOf(visit) {
  if (!isHeldOut(visit)) return { ...(await loadGroup(visit)), labels: null };
  const visits = visitsOf(visit[VISIT.page], visit[VISIT.set]);
  const groups = await Promise.all(visits.map(loadGroup));
  const reasons = [];
  const samples = groups.map((group) => {
    const sample = { ...group.samples[0], why: group.samples[0].why.map((k) => reasons.length + k) };
    reasons.push(...group.reasons);
    return sample;
  });
  const names = [...new Set(groups.flatMap((group) => Object.keys(group.scores)))];
  const scores = Object.fromEntries(names.map((name) => [name, groups.map((group) => (group.scores[name] || [null])[0])]));
  return { page: visit[VISIT.page], samples, scores, parts: {}, reasons, whys: {}, labels: visits.map((v) => v[VISIT.step]), visits };
}

const orderOf = (group) => {
  const order = group.samples.map((_, k) => k);
  if (group.labels) return order;
  const worth = (k) => [group.samples[k].reward ?? -1, passShare(group.samples[k]) ?? -1];
  return order.sort((a, b) => worth(b)[0] - worth(a)[0] || worth(b)[1] - worth(a)[1] || a - b);
};
const labelOf = (group, k) => (group.labels ? group.labels[k] : k + 1);

// Why sample k has nothing for test i, and how nearly it passes.
function failure(group, sample, i) {
  const at = [...sample.bits.slice(0, i)].filter((bit) => bit === "0").length;
  return { why: group.reasons[sample.why[at]] || "no reason is given", degree: sample.degrees ? sample.degrees[at] : null };
}

function heldBy(group, k) {
  return RUN.gates.filter((gate) => {
    const value = group.scores[gate.name] && group.scores[gate.name][k];
    return isNumber(value) && value < gate.at_least - 1e-9;
  });
}

// One sentence for what a sample earned.
function account(group, k) {
  const sample = group.samples[k];
  const parts = [];
  if (isNumber(sample.reward)) {
    const held = heldBy(group, k);
    const applied = RUN.rewards.filter((reward) => reward.weight > 0 && isNumber((group.scores[reward.name] || [])[k]));
    const weights = applied.reduce((sum, reward) => sum + reward.weight, 0);
    parts.push(`reward ${fixed(sample.reward, 3)}`);
    if (applied.length) parts.push(applied.map((reward) => `${reward.name} ${fixed(group.scores[reward.name][k])} × ${fixed(reward.weight / weights)}`).join(" + "));
    for (const gate of held) parts.push(`held back by ${gate.name}: ${fixed(group.scores[gate.name][k])} is below ${gate.at_least}${gate.holds ? ` (takes ${gate.holds.join(", ")})` : " (takes all)"}`);
    if (isNumber(sample.advantage)) parts.push(`advantage ${signed(sample.advantage)}`);
  }
  const share = passShare(sample);
  if (share !== null) parts.push(`${[...sample.bits].filter((bit) => bit === "1").length} of ${sample.bits.length} tests pass`);
  parts.push(`${many(sample.tokens, "token")}${sample.finish === "stop" ? "" : sample.finish === "length" ? ", cut off" : `, ${sample.finish}`}`);
  return parts.join(" · ");
}

// ---- the matrix

const testOrder = (page) => page.tests.map((_, i) => i).sort((a, b) => page.tests[a][1].localeCompare(page.tests[b][1]) || a - b);
const testName = ([id, type, question]) => el("span", { class: "name", title: `${id}: ${question}` }, el("span", { class: "type" }, type), el("span", { class: "clip" }, question || id));

const short = (value) => (isNumber(value) ? (value >= 0.995 ? "1" : value.toFixed(2).replace(/^0/, "")) : "");

function matrixView(group, page, order, chosen, choose, say, past) {
  const columns = (make) => order.map((k) => { const cell = make(group.samples[k], k); if (k === chosen) cell.classList.add("chosen"); cell.dataset.k = k; return cell; });
  const row = (name, make, attributes) => el("tr", attributes, el("th", { scope: "row" }, name), columns(make));
  const figure = (text, color, title) => el("td", { class: "figure", title, style: color ? { "background-color": color } : {} }, text);
  const shadedCell = (value, text, title) => { const color = isNumber(value) ? heat(value) : null; const cell = figure(text, color && rgb(color), title); if (color) cell.style.setProperty("color", inkOn(color)); return cell; };
  const advantages = group.samples.map((sample) => Math.abs(sample.advantage ?? 0));
  const top = Math.max(1e-9, ...advantages);
  const with_ = (tr, key, i) => { if (past) tr.append(...past[key](i).flat()); return tr; };
  const sum = (text) => el("td", { class: "sum" }, text);
  const mean = (name) => { const values = group.samples.map((sample) => (name ? sample[name] : passShare(sample))).filter(isNumber); return values.length > 1 && !group.labels ? fixed(values.reduce((a, b) => a + b, 0) / values.length) : ""; };
  const has = (name) => group.samples.some((sample) => isNumber(sample[name]));
  const rows = [];
  if (has("reward")) rows.push(with_(fill(row("reward", (s, k) => shadedCell(s.reward, short(s.reward), account(group, k)), { class: "total" }), {}, [sum(mean("reward"))]), "reward"));
  if (has("advantage")) rows.push(row("advantage", (s) => figure(isNumber(s.advantage) ? signed(s.advantage, 1) : "", balance(s.advantage, top), signed(s.advantage))));
  if (page.tests.length) rows.push(with_(fill(row("tests passed", (s) => shadedCell(passShare(s), short(passShare(s)), percent(passShare(s)))), {}, [sum(mean())]), "truth"));
  rows.push(row("tokens", (s) => figure(s.tokens + (s.finish === "stop" ? "" : "✂"), "", s.finish === "stop" ? "ended by itself" : "cut off")));
  const gates = new Map(RUN.gates.map((gate) => [gate.name, gate]));
  const scoreRows = [];
  for (const [name, values] of Object.entries(group.scores)) {
    const weight = (RUN.rewards.find((reward) => reward.name === name) || {}).weight;
    const gate = gates.get(name);
    const note = gate ? el("small", {}, ` gate ≥ ${gate.at_least}`) : weight === undefined ? null : el("small", {}, ` × ${weight}`);
    scoreRows.push(row([name, note], (_, k) => {
      const held = gate && isNumber(values[k]) && values[k] < gate.at_least - 1e-9;
      const cell = shadedCell(values[k], held ? "⊘" : short(values[k]), `${name} ${fixed(values[k], 3)}${held ? ": held back" : ""}`);
      if (held) cell.classList.add("held");
      return cell;
    }, { class: "score" }));
    for (const [part, of] of Object.entries(group.parts[name] || {})) scoreRows.push(row(part, (_, k) => shadedCell(of[k], short(of[k]), `${name}/${part} ${fixed(of[k], 3)}`), { class: "part" }));
  }
  const testRows = testOrder(page).map((i) => {
    const passed = group.samples.filter((sample) => sample.bits[i] === "1").length;
    const tr = row(testName(page.tests[i]), (s) => {
      const bit = s.bits[i];
      if (bit !== "0") return el("td", { class: bit === "1" ? "pass" : "unknown" }, bit === "1" ? "" : "?");
      const { degree } = failure(group, s, i);
      return el("td", { class: "fail", style: { "--degree": (degree ?? 0) / 100 } }, isNumber(degree) && degree > 0 ? degree : "");
    }, { class: "test", "data-i": i });
    tr.append(sum(`${passed}/${group.samples.length}`));
    return with_(tr, "test", i);
  });
  const head = el("tr", {}, el("th", {}, group.labels ? "evaluation after step" : `${many(group.samples.length, "sample")}, the best first`), columns((_, k) => el("th", { class: "head" }, el("button", { type: "button", onclick: () => choose(k) }, labelOf(group, k)))));
  if (past) head.append(el("th"), ...past.head().flat());
  const table = el("table", { class: "matrix" }, el("thead", {}, head), el("tbody", {}, rows), scoreRows.length ? el("tbody", { class: "scores" }, scoreRows) : null, testRows.length ? el("tbody", { class: "tests" }, testRows) : null);
  const tell = (event) => {
    const cell = event.target.closest("td[data-k]");
    if (!cell) return;
    const k = Number(cell.dataset.k);
    const i = cell.parentElement.dataset.i;
    if (event.type === "click") choose(k);
    if (i === undefined) { say(el("b", {}, `sample ${labelOf(group, k)}`), ` ${cell.title || account(group, k)}`); return; }
    const [id, type, question] = page.tests[i];
    const bit = group.samples[k].bits[i];
    const { why, degree } = bit === "0" ? failure(group, group.samples[k], Number(i)) : { why: bit === "1" ? "passed" : "not judged", degree: null };
    say(el("b", {}, `sample ${labelOf(group, k)}`), ` ${type} ${id}: `, el("span", { class: bit === "1" ? "gain" : "loss" }, why), isNumber(degree) ? el("small", {}, ` degree ${degree} %`) : null, question ? el("small", {}, ` asks ${question}`) : null);
  };
  table.addEventListener("pointerover", tell);
  table.addEventListener("click", tell);
  return el("div", { class: "scroll" }, table);
}

// ---- the page over the run

// The same page at all its steps, as columns beside the samples: shares of the samples that pass.
function historyCells(page, visit) {
  const visits = page.history.filter((of) => of.set === visit[VISIT.set]);
  if (visits.length < 2 || isHeldOut(visit)) return null;
  const cell = (share, text, title) => { const color = heat(share); return el("td", { class: "figure past", title, style: { "background-color": rgb(color), color: inkOn(color) } }, text); };
  const empty = () => el("td", { class: "past" });
  const here_ = (of) => (of.step === visit[VISIT.step] ? "head past here" : "head past");
  const truth = (of) => { const known = of.passes.filter(isNumber); return known.length ? known.reduce((a, b) => a + b, 0) / (known.length * of.samples) : null; };
  const gap = () => el("td", { class: "gap" });
  return {
    head: () => [el("th", { class: "gap" }), visits.map((of) => el("th", { class: here_(of), scope: "col" }, el("a", { href: linkTo([of.step, visit[VISIT.page], of.set]), title: `the page at step ${of.step}` }, of.step)))],
    reward: () => [gap(), visits.map((of) => (isNumber(of.reward) ? cell(of.reward, short(of.reward), `mean reward at step ${of.step}`) : empty()))],
    truth: () => [gap(), visits.map((of) => (truth(of) === null ? empty() : cell(truth(of), short(truth(of)), `tests passed at step ${of.step}`)))],
    test: (i) => [gap(), visits.map((of) => (isNumber(of.passes[i]) ? cell(of.passes[i] / of.samples, of.passes[i], `${of.passes[i]} of ${of.samples} samples pass at step ${of.step}`) : empty()))],
  };
}

// The best sample at each visit beside the others, with what changed since the one before.
async function besideView(visit, target) {
  const visits = visitsOf(visit[VISIT.page], visit[VISIT.set]);
  const groups = await Promise.all(visits.map(loadGroup));
  const panes = groups.map((group, i) => {
    const k = orderOf({ ...group, labels: null })[0];
    const before = i ? groups[i - 1].samples[orderOf({ ...groups[i - 1], labels: null })[0]].text : null;
    const sample = group.samples[k];
    return el("div", { class: "pane" }, el("h4", {}, el("a", { href: linkTo(visits[i], isHeldOut(visit) ? i : k) }, `step ${visits[i][VISIT.step]}`), el("small", {}, ` ${isNumber(sample.reward) ? `reward ${fixed(sample.reward)}, ` : ""}${percent(passShare(sample))} of the tests`)),
      el("div", { class: "text" }, before === null ? visible(sample.text) : marked(before, sample.text)));
  });
  target.replaceChildren(...panes);
}

// ---- texts

function othersOf(group, page, order, visit) {
  const others = new Map();
  if (!group.labels && order.length > 1) {
    others.set("best", { name: `best sibling (${order[0] + 1})`, get: () => group.samples[order[0]].text });
    others.set("worst", { name: `worst sibling (${order[order.length - 1] + 1})`, get: () => group.samples[order[order.length - 1]].text });
  }
  if (page.reference !== null) others.set("reference", { name: "the reference", get: () => page.reference });
  group.samples.forEach((sample, k) => others.set(`k${k}`, { name: group.labels ? `step ${group.labels[k]}` : `sample ${k + 1}`, get: () => sample.text }));
  if (!group.labels) {
    for (const of of visitsOf(visit[VISIT.page], visit[VISIT.set])) {
      if (of[VISIT.step] !== visit[VISIT.step]) others.set(`s${of[VISIT.step]}`, { name: `best at step ${of[VISIT.step]}`, get: async () => { const there = await loadGroup(of); return there.samples[orderOf({ ...there, labels: null })[0]].text; } });
    }
  }
  return others;
}

function textView(group, page, order, chosen, visit) {
  const sample = group.samples[chosen];
  const tokens = tokensOf(sample);
  const modes = modesFor(tokens);
  const others = othersOf(group, page, order, visit);
  if (!modes.includes(shown.mode)) shown.mode = sample.token_advantages && modes.includes("advantage") ? "advantage" : modes.includes("surprise") ? "surprise" : "difference";
  if (!others.has(shown.other)) shown.other = order[0] === chosen && others.has("worst") ? "worst" : others.has("best") ? "best" : [...others.keys()][0];
  const left = el("div", { class: "text" });
  const right = el("div", { class: "text" });
  const line = el("p", { class: "line" }, "");
  const legend = el("span", { class: "soft" });
  const select = el("select", { "aria-label": "what the text is compared with", onchange: () => { shown.other = select.value; draw(); } }, [...others].map(([key, other]) => el("option", { value: key, selected: key === shown.other }, other.name)));
  const buttons = modes.map((key) => el("button", { type: "button", "data-mode": key, onclick: () => { shown.mode = key; draw(); } }, MODES[key].name));
  const draw = async () => {
    const mode = MODES[shown.mode];
    for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.mode === shown.mode);
    const other = await others.get(shown.other).get();
    legend.textContent = mode.legend;
    line.textContent = "";
    left.replaceChildren(...(shown.mode === "difference" ? marked(other, sample.text) : coloured(sample, tokens, mode, (text) => { line.textContent = text; })));
    right.replaceChildren(...marked(sample.text, other));
    if (sample.hidden) left.append(el("em", {}, ` … ${sample.hidden.toLocaleString("en")} more characters`));
  };
  shown.cycle = () => { shown.mode = modes[(modes.indexOf(shown.mode) + 1) % modes.length]; draw(); };
  draw();
  const whys = group.whys[chosen] ? Object.entries(group.whys[chosen]).filter(([, why]) => why) : [];
  return el("section", {}, el("h2", {}, group.labels ? `After step ${labelOf(group, chosen)}` : `Sample ${labelOf(group, chosen)}`, el("small", {}, ` ${account(group, chosen)}`)),
    whys.length ? el("details", { class: "whys" }, el("summary", {}, "the rewards' own reasons"), el("dl", {}, whys.map(([name, why]) => el("div", {}, el("dt", {}, name), el("dd", {}, why))))) : null,
    el("p", { class: "tools" }, el("span", { class: "modes", role: "group", "aria-label": "colours" }, buttons), legend), line,
    el("div", { class: "panes" }, el("div", { class: "pane" }, el("h4", {}, group.labels ? `step ${labelOf(group, chosen)}` : `sample ${labelOf(group, chosen)}`), left), el("div", { class: "pane" }, el("h4", {}, "beside ", select), right)));
}

// ---- all of it

function imageView(page) {
  if (!page.image.uri) return el("p", { class: "soft" }, page.image.why || "no image");
  const image = el("img", { src: page.image.uri, width: page.image.width, height: page.image.height, alt: "the page" });
  const frame = el("button", { type: "button", class: "image", "aria-label": "larger", onclick: () => frame.classList.toggle("large") }, image);
  return frame;
}

async function showGroup(visit, k) {
  const mine = ++turn;
  document.body.dataset.state = "loading";
  let group, page;
  try {
    [group, page] = await Promise.all([groupOf(visit), loadPage(visit[VISIT.page])]);
  } catch (error) {
    if (mine === turn) failed(error.message);
    return;
  }
  if (mine !== turn) return;
  const order = orderOf(group);
  const held = isHeldOut(visit);
  let chosen = held ? Math.max(0, group.labels.indexOf(visit[VISIT.step])) : k !== null && k < order.length ? k : order[0];
  document.title = `${RUN.pages[visit[VISIT.page]]}, step ${visit[VISIT.step]} · ${RUN.run}`;
  const line = el("p", { class: "line" }, "Point at a cell for its reason; a click shows that sample below.");
  const below = el("div");
  const place = el("div");
  const choose = (next) => {
    chosen = next;
    history.replaceState(null, "", held ? linkTo(group.visits[next]) : linkTo(visit, next));
    for (const cell of place.querySelectorAll("[data-k]")) cell.classList.toggle("chosen", Number(cell.dataset.k) === next);
    below.replaceChildren(textView(group, page, order, next, visit));
  };
  shown.move = (by_) => choose(order[Math.min(order.length - 1, Math.max(0, order.indexOf(chosen) + by_))]);
  place.append(matrixView(group, page, order, chosen, choose, (...say) => fill(line, {}, [line.replaceChildren(), ...say]), historyCells(page, visit)));
  below.append(textView(group, page, order, chosen, visit));
  const beside = el("div", { class: "panes beside" });
  const again = visitsOf(visit[VISIT.page], visit[VISIT.set]).length > 1;
  by("view").replaceChildren(el("div", { class: "group" },
    el("aside", { class: "left" }, imageView(page), el("p", { class: "soft" }, [...page.tags].join(", ")),
      page.reference === null ? null : el("details", {}, el("summary", {}, "reference"), el("div", { class: "text" }, page.reference))),
    el("div", { class: "right" }, group.unjudged ? el("p", { class: "loss" }, `not judged: ${group.unjudged}`) : null, place, line)),
  below,
  again ? el("section", {}, el("details", { ontoggle: (event) => { if (event.target.open && !beside.firstChild) besideView(visit, beside); } }, el("summary", {}, `its ${held ? "transcript" : "best sample"} at each of ${many(visitsOf(visit[VISIT.page], visit[VISIT.set]).length, "step")}, side by side`), beside)) : "");
  document.body.dataset.state = "group";
  document.body.dataset.ms = Math.round(performance.now());
}
